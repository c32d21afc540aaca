// Which faces the wall shows: pure functions, tested by node.

// Positions of the faces of one class (-1: all), easiest first; equal difficulties keep their order.
export function ordered(difficulty, labels, only) {
  const kept = [...labels.keys()].filter((i) => only < 0 || labels[i] === only);
  return kept.sort((a, b) => difficulty[a] - difficulty[b] || a - b);
}

// `count` neighbours out of `order`; share 0 shows the easiest, 1 the hardest.
export function inView(order, share, count) {
  const start = Math.round(share * Math.max(0, order.length - count));
  return { start, faces: order.slice(start, start + count) };
}

// In which stage, from 1, the face at a position of the order comes in.
export function stageAt(position, total, shares) {
  const found = shares.findIndex((share) => (position + 0.5) / total <= share + 1e-9);
  return 1 + (found < 0 ? shares.length - 1 : found);
}
