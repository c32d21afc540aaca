// Crop square, parts and landmarks, exactly as fer_lab.faces computes them. No DOM in here.
// Places are in pixels; 0 is the middle of the first pixel. A box is [left, top, right, bottom], its outer edges.

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

export const ALPHA = 1.05;
export const SEEN = [17, 68]; // brows, eyes, nose, mouth: from, and one past the last
export const NOSE = 30;
export const SQUARE = 120;
export const MIDDLE = 96;
export const PARTS = {
  eyes: { points: [...range(17, 27), ...range(37, 48)], width: 128, height: 48 },
  nose: { points: range(27, 36), width: 32, height: 64 },
  mouth: { points: range(48, 67), width: 64, height: 32 },
};
export const GROUPS = [
  ["jaw", 0, 17], ["left brow", 17, 22], ["right brow", 22, 27], ["nose", 27, 36], ["left eye", 36, 42], ["right eye", 42, 48], ["mouth", 48, 68],
];

export function groupOf(index) {
  return GROUPS.find(([, from, to]) => index >= from && index < to);
}

export function pointsBox(points) {
  const [xs, ys] = [0, 1].map((k) => points.map((point) => point[k]));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

// How far the landmarks reach, and the square that paper 3 makes of it.
export function cropSquare(points, alpha) {
  const [left, top, right, bottom] = pointsBox(points.slice(...SEEN));
  const [dh, dv] = [right - left, bottom - top];
  const side = alpha * Math.max(dh, dv);
  const [x, y] = points[NOSE];
  return { dh, dv, side, box: [x - side / 2, y - side / 2, x + side / 2, y + side / 2] };
}

export function middleOf([left, top, right, bottom], share = MIDDLE / SQUARE) {
  const [x, y, w, h] = [(left + right) / 2, (top + bottom) / 2, ((right - left) / 2) * share, ((bottom - top) / 2) * share];
  return [x - w, y - h, x + w, y + h];
}

export function partBoxes(points, margin) {
  return Object.fromEntries(Object.entries(PARTS).map(([name, part]) => {
    const [left, top, right, bottom] = pointsBox(part.points.map((i) => points[i]));
    return [name, [left - margin, top - margin, right + margin, bottom + margin]];
  }));
}

export function countInside(points, [left, top, right, bottom]) {
  return points.slice(...SEEN).filter(([x, y]) => x >= left && x <= right && y >= top && y <= bottom).length;
}

// `pixels` (bytes, row by row) inside `box`, stretched to rows x columns: bilinear, the border going on outside,
// averaged over a finer grid where the box is shrunk.
export function readBox(pixels, height, width, [left, top, right, bottom], rows, columns) {
  const result = new Uint8ClampedArray(rows * columns);
  const [wide, high] = [(right - left) / columns, (bottom - top) / rows];
  const finer = Math.min(Math.max(Math.ceil(Math.sqrt(wide * high) - 1e-6), 1), 8);
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  const at = (row, column) => pixels[clamp(row, height - 1) * width + clamp(column, width - 1)];
  const value = (x, y) => {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const [u, v] = [x - column, y - row];
    return (1 - v) * ((1 - u) * at(row, column) + u * at(row, column + 1)) + v * ((1 - u) * at(row + 1, column) + u * at(row + 1, column + 1));
  };
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let total = 0;
      for (let a = 0; a < finer; a++) {
        for (let b = 0; b < finer; b++) {
          const x = left + wide * (j + (b + 0.5) / finer);
          const y = top + high * (i + (a + 0.5) / finer);
          total += value(clamp(x, width - 1), clamp(y, height - 1));
        }
      }
      result[i * columns + j] = Math.round(total / (finer * finer));
    }
  }
  return result;
}

// --- moving landmarks

const OUTSIDE = 0.15; // how far beyond the picture a landmark may go, share of its side

// The points with landmark `index`, or the whole part it belongs to, moved. What would leave the stage moves less.
export function movedPoints(points, index, whole, [dx, dy], [height, width]) {
  const [, from, to] = whole ? groupOf(index) : [null, index, index + 1];
  const [left, top, right, bottom] = pointsBox(points.slice(from, to));
  const kept = (step, low, high, side) => Math.min(Math.max(step, -0.5 - OUTSIDE * side - low), side * (1 + OUTSIDE) - 0.5 - high);
  const [x, y] = [kept(dx, left, right, width), kept(dy, top, bottom, height)];
  return points.map((point, i) => (i >= from && i < to ? [point[0] + x, point[1] + y] : point));
}

// The landmark closest to a place, or -1 where none is within `reach` pixels.
export function nearestPoint(points, [x, y], reach) {
  const distances = points.map(([px, py]) => Math.hypot(px - x, py - y));
  const best = distances.indexOf(Math.min(...distances));
  return distances[best] <= reach ? best : -1;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// What a key does: {choose: index} or {move: [dx, dy]} in pixels; null when it means nothing here.
export function keyMeans(key, coarse, index, count = 68) {
  if (key === "[" || key === "]") return { choose: (index + (key === "]" ? 1 : count - 1)) % count };
  const arrow = ARROWS[key];
  return arrow ? { move: arrow.map((step) => step * (coarse ? 2.5 : 0.5)) } : null;
}

// --- between pixels of the picture and of the screen: the picture has a margin around it
export function easel(screenWidth, height, width) {
  const scale = screenWidth / (width * (1 + 2 * OUTSIDE));
  return {
    scale,
    toScreen: ([x, y]) => [(x + 0.5 + OUTSIDE * width) * scale, (y + 0.5 + OUTSIDE * height) * scale],
    toPicture: ([x, y]) => [x / scale - 0.5 - OUTSIDE * width, y / scale - 0.5 - OUTSIDE * height],
  };
}

export function rounded(points) {
  return points.map((point) => point.map((value) => Math.round(100 * value) / 100));
}
