// The geometry of a spatial transformer, exactly as F.affine_grid and F.grid_sample(align_corners=False) see it.
// x and y run from -1 to 1 between the outer edges of the picture; pixel j of W has its middle at (2j + 1) / W - 1.
// theta = [a, b, tx, c, d, ty] maps a place of the output to the place of the input that is read there.

export const IDENTITY = [1, 0, 0, 0, 1, 0];

// A theta in terms a hand understands: turned by `rotation` degrees (clockwise on the screen, because y points down),
// `scale` times as large, moved by x and y. `rest` [p, q, r, s] is what a turn and a scale cannot say: shear, stretch.
export function thetaOf({ rotation, scale, x, y, rest = [1, 0, 0, 1] }) {
  const angle = (rotation * Math.PI) / 180;
  const cos = scale * Math.cos(angle);
  const sin = scale * Math.sin(angle);
  const [p, q, r, s] = rest;
  return [cos * p - sin * r, cos * q - sin * s, x, sin * p + cos * r, sin * q + cos * s, y];
}

// The other way round. The rotation is the one closest to theta, the scale keeps its area.
export function partsOf([a, b, x, c, d, y]) {
  const angle = a + d === 0 && c - b === 0 ? 0 : Math.atan2(c - b, a + d);
  const scale = Math.max(Math.sqrt(Math.abs(a * d - b * c)), 1e-3);
  const cos = Math.cos(angle) / scale;
  const sin = Math.sin(angle) / scale;
  const rest = [cos * a + sin * c, cos * b + sin * d, cos * c - sin * a, cos * d - sin * b];
  return { rotation: (angle * 180) / Math.PI, scale, x, y, rest: isPlain(rest) ? [1, 0, 0, 1] : rest };
}

export function isPlain(rest) {
  return [1, 0, 0, 1].every((value, i) => Math.abs(rest[i] - value) < 1e-6);
}

export function apply([a, b, tx, c, d, ty], [x, y]) {
  return [a * x + b * y + tx, c * x + d * y + ty];
}

export function sameTheta(one, other, tolerance = 1e-9) {
  return one.length === other.length && one.every((value, i) => Math.abs(value - other[i]) <= tolerance);
}

// `pixels` (bytes, row by row) read through theta, bilinear, `outside` where theta points beyond the picture.
export function warp(pixels, height, width, theta, outside = 127.5) {
  const result = new Uint8ClampedArray(height * width);
  const at = (row, column) =>
    row < 0 || column < 0 || row >= height || column >= width ? outside : pixels[row * width + column];
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const [x, y] = apply(theta, [(2 * j + 1) / width - 1, (2 * i + 1) / height - 1]);
      const column = ((x + 1) * width - 1) / 2;
      const row = ((y + 1) * height - 1) / 2;
      const left = Math.floor(column);
      const top = Math.floor(row);
      const u = column - left;
      const v = row - top;
      result[i * width + j] = Math.round(
        (1 - v) * ((1 - u) * at(top, left) + u * at(top, left + 1)) +
          v * ((1 - u) * at(top + 1, left) + u * at(top + 1, left + 1)),
      );
    }
  }
  return result;
}

// The lines of the sampling grid: `count` cells across and down, each line as its two ends in input coordinates.
export function gridLines(theta, count = 8) {
  const lines = [];
  for (let k = 0; k <= count; k++) {
    const t = (2 * k) / count - 1;
    const edge = k === 0 || k === count;
    lines.push({ edge, ends: [apply(theta, [t, -1]), apply(theta, [t, 1])] });
    lines.push({ edge, ends: [apply(theta, [-1, t]), apply(theta, [1, t])] });
  }
  return lines;
}

export function corners(theta) {
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map((corner) => apply(theta, corner));
}

// Is the place inside the frame that theta draws? True too when the frame is mirrored.
export function inside(theta, place) {
  const shape = corners(theta);
  const sides = shape.map(([x, y], i) => {
    const [nextX, nextY] = shape[(i + 1) % 4];
    return (nextX - x) * (place[1] - y) - (nextY - y) * (place[0] - x);
  });
  return sides.every((side) => side >= 0) || sides.every((side) => side <= 0);
}

// A picture area of width x height CSS pixels that shows input coordinates from -extent to extent.
export function stage(width, height, extent) {
  return {
    width, height, extent,
    toScreen: ([x, y]) => [(width / 2) * (1 + x / extent), (height / 2) * (1 + y / extent)],
    toPlace: ([px, py]) => [((2 * px) / width - 1) * extent, ((2 * py) / height - 1) * extent],
  };
}

// Where the handles sit, in screen pixels: four corners to scale, a knob beyond the upper edge to turn.
// A handle that would lie outside the area waits at its edge, so that it can always be reached.
export function handles(theta, view, { reach = 24, margin = 10 } = {}) {
  const keep = ([x, y]) => [
    Math.min(Math.max(x, margin), view.width - margin),
    Math.min(Math.max(y, margin), view.height - margin),
  ];
  const middle = view.toScreen(apply(theta, [0, 0]));
  const top = view.toScreen(apply(theta, [0, -1]));
  const length = Math.hypot(top[0] - middle[0], top[1] - middle[1]) || 1;
  const knob = [top[0] + (reach * (top[0] - middle[0])) / length, top[1] + (reach * (top[1] - middle[1])) / length];
  return { corners: corners(theta).map((corner) => keep(view.toScreen(corner))), knob: keep(knob), top: keep(top) };
}

// What a press at `point` (screen pixels) takes hold of: "turn", "scale", "move" or null.
export function grip(theta, view, point, radius = 14) {
  const { corners: ends, knob } = handles(theta, view);
  const near = ([x, y]) => Math.hypot(point[0] - x, point[1] - y) <= radius;
  if (near(knob)) return "turn";
  if (ends.some(near)) return "scale";
  return inside(theta, view.toPlace(point)) ? "move" : null;
}
