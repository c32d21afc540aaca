"""Settings: four layers, strict values, paths that mean the same from everywhere, files never half written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fer_lab import settings as module
from fer_lab.settings import (
    LabError,
    SettingsError,
    cache_dir,
    choose_device,
    choose_layout,
    choose_precision,
    load_settings,
    state_dir,
    write_atomic,
)


@pytest.fixture
def lab(tmp_path):
    """A lab folder with a settings.ini and a notebook folder below it."""
    (tmp_path / "nbs" / "papers").mkdir(parents=True)
    (tmp_path / "settings.ini").write_text("[fer_lab]\nbudget = full\ndata_dir = faces\nseed = 7  # ours\n")
    return tmp_path


def test_defaults_apply_where_no_file_exists(tmp_path):
    settings = load_settings(tmp_path, environ={})
    assert (settings.dataset, settings.budget, settings.seed) == ("synthetic", "lesson", 0)
    assert settings.data_dir == tmp_path / "data"
    assert set(settings.sources.values()) == {"default"}


def test_later_layers_win_and_are_named(lab):
    settings = load_settings(
        lab / "nbs" / "papers", environ={"FER_LAB_BUDGET": "smoke", "FER_LAB_SEED": "3"}, seed=5, dataset=None)
    assert (settings.budget, settings.seed, settings.dataset) == ("smoke", 5, "synthetic")
    assert settings.sources["data_dir"] == str(lab / "settings.ini")
    assert settings.sources["budget"] == "FER_LAB_BUDGET"
    assert settings.sources["seed"] == "argument"
    assert settings.sources["dataset"] == "default"


def test_relative_paths_count_from_where_they_were_written(lab):
    deep = lab / "nbs" / "papers"
    assert load_settings(deep, environ={}).data_dir == lab / "faces"
    assert load_settings(deep, environ={}).runs_dir == lab / "runs"
    assert load_settings(deep, environ={"FER_LAB_DATA_DIR": "../x"}).data_dir == lab / "nbs" / "x"
    assert load_settings(deep, environ={}, data_dir=Path("y")).data_dir == deep / "y"
    assert load_settings(deep, environ={}, data_dir="~").data_dir == Path.home()


def test_an_empty_variable_is_not_set(lab):
    assert load_settings(lab, environ={"FER_LAB_BUDGET": " "}).budget == "full"


def test_the_process_environment_is_used(lab, monkeypatch):
    monkeypatch.chdir(lab)
    monkeypatch.setenv("FER_LAB_BUDGET", "Smoke")
    assert load_settings().budget == "smoke"


@pytest.mark.parametrize("text, parts", [
    ("[fer_lab]\nbugdet = smoke\n", ["bugdet = smoke", "Did you mean budget", "data_dir"]),
    ("[fer_lab]\nbudget = quick\n", ["budget = 'quick'", "smoke, lesson, full"]),
    ("[fer_lab]\nseed = -1\n", ["seed = '-1'", "whole number"]),
    ("[fer_lab]\nseed = 4294967296\n", ["4294967295"]),
    ("[fer_lab]\ndevice = gpu\n", ["device = 'gpu'", "cuda"]),
    ("[fer_lab]\nprecision = fp16\n", ["precision = 'fp16'", "bf16"]),
    ("[fer_lab]\ndataset = ck\n", ["dataset = 'ck'", "fer2013", "ckplus"]),
    ("[fer_lab]\ndata_dir =\n", ["data_dir = ''", "a folder"]),
    ("[fer-lab]\nbudget = smoke\n", ["[fer_lab]", "fer-lab"]),
    ("[fer_lab]\nseed = 1\nseed = 2\n", ["already exists"]),
    ("[fer_lab]\nnonsense\n", ["nonsense"]),
])
def test_mistakes_in_the_file_name_file_key_value_and_what_is_allowed(tmp_path, text, parts):
    (tmp_path / "settings.ini").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, environ={})
    for part in [str(tmp_path / "settings.ini"), *parts]:
        assert part in str(caught.value)


def test_mistakes_elsewhere_name_their_place(tmp_path):
    with pytest.raises(SettingsError, match="FER_LAB_BUGDET.*Did you mean budget"):
        load_settings(tmp_path, environ={"FER_LAB_BUGDET": "smoke"})
    with pytest.raises(SettingsError, match="FER_LAB_SEED: seed = 'x'"):
        load_settings(tmp_path, environ={"FER_LAB_SEED": "x"})
    with pytest.raises(SettingsError, match="argument: budget = 'x'"):
        load_settings(tmp_path, environ={}, budget="x")
    assert issubclass(SettingsError, LabError) and issubclass(SettingsError, ValueError)


def test_variables_that_are_no_settings_are_left_alone(tmp_path):
    load_settings(tmp_path, environ={"FER_LAB_CACHE_DIR": "c", "FER_LAB_STATE_DIR": "s", "FER_LAB_DEBUG": "1"})


def test_a_foreign_settings_file_is_passed_over(lab):
    (lab / "nbs" / "settings.ini").write_bytes(b"[DEFAULT]\nlib_name = other\n\xff\xfe")
    assert load_settings(lab / "nbs" / "papers", environ={}).seed == 7


def test_a_file_saved_by_notepad_is_read(tmp_path):
    (tmp_path / "settings.ini").write_bytes(b"\xef\xbb\xbf[fer_lab]\r\nbudget = smoke\r\n")
    assert load_settings(tmp_path, environ={}).budget == "smoke"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_in_another_encoding_says_so(tmp_path, encoding):
    (tmp_path / "settings.ini").write_bytes("[fer_lab]\ndata_dir = Gesichter für alle\n".encode(encoding))
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings(tmp_path, environ={})


def test_a_percent_sign_is_only_a_percent_sign(tmp_path):
    (tmp_path / "settings.ini").write_text("[fer_lab]\ndata_dir = 50%faces\n")
    assert load_settings(tmp_path, environ={}).data_dir == tmp_path / "50%faces"


def test_the_settings_of_the_repository_are_the_ones_a_new_lab_gets():
    root = Path(__file__).parents[2]
    assert (root / "settings.ini").read_text() == module.settings_text()


def test_settings_are_frozen_comparable_and_recordable(lab):
    one, two = load_settings(lab, environ={}), load_settings(lab, environ={}, seed=7)
    assert one == two and one.sources != two.sources
    with pytest.raises(AttributeError):
        one.seed = 1
    record = json.loads(json.dumps(one.to_dict()))
    assert record["seed"] == 7 and record["data_dir"] == str(lab / "faces")
    loaded = [load_settings(lab, environ={}, budget=b) for b in module.BUDGETS]
    assert [settings.pick(smoke=1, lesson=2, full=3) for settings in loaded] == [1, 2, 3]


def test_printed_settings_name_no_folder_above_the_project(lab, monkeypatch):
    monkeypatch.chdir(lab / "nbs")
    lines = repr(load_settings(environ={}, seed=3)).splitlines()
    assert len(lines) == 7 and lines[1].split() == ["data_dir", "../faces", "../settings.ini"]
    assert lines[6].split() == ["seed", "3", "argument"]


def test_the_table_escapes_what_it_shows(lab):
    (lab / "settings.ini").write_text("[fer_lab]\ndata_dir = <b>\n")
    table = load_settings(lab, environ={}, device="cpu")._repr_html_()
    assert "&lt;b&gt;" in table and "<b>" not in table and "device in use" in table


def test_paths_are_shown_as_seen_from_here(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "a" / "b")
    assert module.short_path("x/y") == "x/y"
    assert module.short_path(tmp_path / "c") == "../c"
    assert module.short_path(Path(tmp_path.anchor) / "elsewhere") == str(Path(tmp_path.anchor) / "elsewhere")
    monkeypatch.chdir(tmp_path.anchor)
    assert module.short_path(tmp_path / "a" / "b" / "c") == "~/c"


def test_a_device_that_is_missing_is_an_error_and_not_another_device(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = load_settings(tmp_path, environ={"FER_LAB_DEVICE": "cuda"})
    with pytest.raises(SettingsError, match="FER_LAB_DEVICE: device = 'cuda' is not on this machine.*cpu"):
        choose_device(settings)
    assert "not on this machine" in settings._repr_html_()


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch, tmp_path):
    settings = load_settings(tmp_path, environ={})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *a: "Card X")
    assert choose_device(settings) == (torch.device("cuda"), "auto: Card X found")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device(settings).value == torch.device("cpu")


@pytest.mark.parametrize("avx, amx, value", [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")])
def test_precision_follows_the_hardware(monkeypatch, tmp_path, avx, amx, value):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    cpu = torch.device("cpu")
    choice = choose_precision(load_settings(tmp_path, environ={}), cpu)
    assert choice.value == value and choice.reason.startswith("auto")
    assert choose_precision(load_settings(tmp_path, environ={}, precision="fp32"), cpu).value == "fp32"
    forced = choose_precision(load_settings(tmp_path, environ={}, precision="bf16"), cpu)
    assert forced.value == "bf16" and ("slow" in forced.reason) == (value == "fp32")


def test_precision_is_safe_where_pytorch_cannot_be_asked(monkeypatch, tmp_path):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert choose_precision(load_settings(tmp_path, environ={}), torch.device("cpu")).value == "fp32"


@pytest.mark.parametrize("capability, value", [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_precision_on_nvidia_needs_ampere(monkeypatch, tmp_path, capability, value):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision(load_settings(tmp_path, environ={}), torch.device("cuda")).value == value


def test_layout_changes_memory_and_not_numbers():
    x = torch.arange(96.0).reshape(2, 3, 4, 4)
    y = x.contiguous(memory_format=choose_layout(torch.device("cpu")).value)
    assert torch.equal(x, y) and y.stride() != x.stride()


def test_folders_of_the_user_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_LAB_CACHE_DIR", str(tmp_path / "c"))
    monkeypatch.setenv("FER_LAB_STATE_DIR", str(tmp_path / "s"))
    assert (cache_dir(), state_dir()) == (tmp_path / "c", tmp_path / "s")
    assert not cache_dir().exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "deep" / "a.json", "old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["a.json"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    assert write_atomic(tmp_path / "b", "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_importing_settings_does_not_import_torch():
    code = "import sys, fer_lab.settings; assert 'torch' not in sys.modules; fer_lab.settings.load_settings()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("text", ["budget = smoke\n", "# mine\n\nbudget = smoke\n", "[fer_lab\nbudget = smoke\n"])
def test_a_file_without_a_proper_section_is_an_error_and_not_ignored(tmp_path, text):
    (tmp_path / "settings.ini").write_text(text)
    with pytest.raises(SettingsError, match=r"line \d.*\[fer_lab\]"):
        load_settings(tmp_path, environ={})


def test_settings_of_another_program_are_passed_over(tmp_path):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = other\ndevice = printer\n")
    assert load_settings(tmp_path, environ={}).sources["device"] == "default"
