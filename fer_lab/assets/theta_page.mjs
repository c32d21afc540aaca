// How a frozen ThetaWidget finds its answers.
import { partsOf, sameTheta } from "./geometry.mjs";
import { inflated, interpolated } from "./lattice.mjs";
import { bytes } from "./parts.mjs";

// Theta's answers: the network's own choice exactly, every other turn, scale and shift between lattice points.
export async function thetaAnswers({ lattice, axes }) {
  const tables = await Promise.all(lattice.map((text) => inflated(bytes(text))));
  return (get) => {
    const [face, theta, own] = [get("face"), get("theta"), get("network")[get("face")]];
    const { rotation, scale, x, y } = partsOf(theta);
    const between = () => interpolated(tables[face], axes, [rotation, Math.log(scale), x, y], get("classes").length);
    return { face, theta, milliseconds: 0, probabilities: sameTheta(theta, own.theta) ? own.probabilities : between() };
  };
}
