// How a frozen AUMixer finds its faces: all pictures lie in one sheet, and a key says which is which.
import { pictureKey } from "./mixing.mjs";

export async function mixerAnswers({ sheet, columns, keys, size, steps }) {
  const image = new Image();
  image.src = sheet;
  await image.decode();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const picture = (n) => {
    const { data } = context.getImageData((n % columns) * size, Math.floor(n / columns) * size, size, size);
    return Uint8Array.from({ length: size * size }, (_, i) => data[4 * i]);
  };
  const calm = picture(keys.indexOf("rest"));
  return (get) => {
    const names = get("units").map((unit) => unit.name);
    const key = pictureKey(get("aus"), get("intensity"), names, get("presets"), steps);
    return { asked: get("asked"), picture: picture(keys.indexOf(key)), calm, milliseconds: 0 };
  };
}
