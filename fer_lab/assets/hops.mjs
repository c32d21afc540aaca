// Hops on a graph: who is how far away, and how much a node takes from each other one. Edges are [[a, b], …], each once.

// Hops from `start` to every node, -1 where no way leads; breadth first.
export function hopsFrom(edges, count, start) {
  const beside = Array.from({ length: count }, () => []);
  for (const [a, b] of edges) { beside[a].push(b); beside[b].push(a); }
  const hops = new Array(count).fill(-1);
  hops[start] = 0;
  for (let border = [start]; border.length;) {
    const next = [];
    for (const node of border) {
      for (const other of beside[node]) if (hops[other] < 0) { hops[other] = hops[node] + 1; next.push(other); }
    }
    border = next;
  }
  return hops;
}

// The row of `start` in the k-th power of D^-1/2 (A + I) D^-1/2: what it takes from each node.
export function rowOfPower(edges, count, start, k) {
  const root = new Array(count).fill(1); // each node is its own neighbour
  for (const [a, b] of edges) { root[a] += 1; root[b] += 1; }
  root.forEach((degree, i) => { root[i] = 1 / Math.sqrt(degree); });
  let row = new Array(count).fill(0);
  row[start] = 1;
  for (let step = 0; step < k; step++) {
    const next = row.map((value, i) => value * root[i] ** 2);
    for (const [a, b] of edges) {
      next[a] += row[b] * root[a] * root[b];
      next[b] += row[a] * root[a] * root[b];
    }
    row = next;
  }
  return row;
}

// For each region: how many of its nodes are reached, of how many, and its share of the row.
export function byRegion(regions, hops, row, k) {
  const all = row.reduce((a, b) => a + b, 0);
  return Object.entries(regions).map(([name, nodes]) => ({
    name, of: nodes.length, reached: nodes.filter((i) => hops[i] >= 0 && hops[i] <= k).length,
    share: nodes.reduce((sum, i) => sum + row[i], 0) / all }));
}

// The node nearest to a place; with a direction, the nearest one that lies more that way than aside, or `from` itself.
export function nearest(points, [x, y]) {
  const far = points.map(([a, b]) => (a - x) ** 2 + (b - y) ** 2);
  return far.indexOf(Math.min(...far));
}

export function stepFrom(points, from, [dx, dy]) {
  let best = [Infinity, from];
  points.forEach(([x, y], i) => {
    const [ax, ay] = [x - points[from][0], y - points[from][1]];
    const along = ax * dx + ay * dy;
    const aside = Math.abs(ax * dy) + Math.abs(ay * dx);
    if (i !== from && along > 0 && aside <= along && along + 2 * aside < best[0]) best = [along + 2 * aside, i];
  });
  return best[1];
}
