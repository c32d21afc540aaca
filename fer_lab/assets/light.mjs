// Treatments of light on grey bytes, as fer_lab.faces has them (to one grey level). No DOM in here.

export function counts(pixels, greys = 256) {
  const found = new Array(greys).fill(0);
  for (const grey of pixels) found[Math.floor((grey * greys) / 256)] += 1;
  return found;
}

const through = (pixels, curve) => Uint8ClampedArray.from(pixels, (grey) => Math.round(curve(grey)));

export function stretched(pixels) {
  const [low, high] = pixels.reduce(([least, most], grey) => [Math.min(least, grey), Math.max(most, grey)], [255, 0]);
  return through(pixels, (grey) => (high > low ? ((grey - low) * 255) / (high - low) : grey));
}

export function equalized(pixels) {
  const found = counts(pixels);
  const first = found.find((count) => count > 0);
  const rest = pixels.length - first;
  if (!rest) return Uint8ClampedArray.from(pixels);
  let below = 0;
  const curve = found.map((count) => { below += count; return (Math.max(below - first, 0) * 255) / rest; });
  return through(pixels, (grey) => curve[grey]);
}

export function gammaOf(pixels, power) {
  return through(pixels, (grey) => 255 * (grey / 255) ** power);
}

export function blended(pixels, weight) {
  const [one, other] = [equalized(pixels), stretched(pixels)];
  return Uint8ClampedArray.from(pixels, (_, i) => Math.round(weight * one[i] + (1 - weight) * other[i]));
}

// The curve of a tile: no grey counts more than the limit, what is cut off is spread over all.
export function tileCurve(found, area, clip) {
  const limit = clip > 0 ? Math.max(Math.floor((clip * area) / 256), 1) : area;
  const spare = found.reduce((sum, count) => sum + Math.max(count - limit, 0), 0);
  const [each, left] = [Math.floor(spare / 256), spare % 256];
  const step = Math.max(Math.floor(256 / Math.max(left, 1)), 1);
  let below = 0;
  return found.map((count, grey) => {
    below += Math.min(count, limit) + each + (grey % step === 0 && grey / step < left ? 1 : 0);
    return Math.min(Math.round((below * 255) / area), 255);
  });
}

export function clahed(pixels, height, width, clip, tiles) {
  const grows = height % tiles || width % tiles; // both sides are mirrored up to whole tiles
  const [rows, columns] = [height, width].map((side) => (grows ? side + tiles - (side % tiles) : side));
  const [high, wide] = [rows / tiles, columns / tiles];
  const mirror = (i, side) => (i < side ? i : 2 * side - 2 - i);
  const curves = [];
  for (let tile = 0; tile < tiles * tiles; tile++) {
    const found = new Array(256).fill(0);
    for (let y = 0; y < high; y++) {
      for (let x = 0; x < wide; x++) {
        const [row, column] = [mirror(Math.floor(tile / tiles) * high + y, height), mirror((tile % tiles) * wide + x, width)];
        found[pixels[row * width + column]] += 1;
      }
    }
    curves.push(tileCurve(found, high * wide, clip));
  }
  const split = (i, size) => { // the tile before, the tile after, how far between their middles
    const place = i / size - 0.5;
    const before = Math.floor(place);
    return [Math.max(before, 0), Math.min(before + 1, tiles - 1), place - before];
  };
  return Uint8ClampedArray.from(pixels, (grey, i) => {
    const [top, low, v] = split(Math.floor(i / width), high);
    const [left, right, u] = split(i % width, wide);
    const curve = (row, column) => curves[row * tiles + column][grey];
    return Math.round((1 - v) * ((1 - u) * curve(top, left) + u * curve(top, right)) + v * ((1 - u) * curve(low, left) + u * curve(low, right)));
  });
}

// Mean and spread of the greys, for the line under a picture.
export function summary(pixels) {
  const mean = pixels.reduce((sum, grey) => sum + grey, 0) / pixels.length;
  return [mean, Math.sqrt(pixels.reduce((sum, grey) => sum + (grey - mean) ** 2, 0) / pixels.length)];
}
