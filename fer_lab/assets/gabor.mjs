// Gabor filters with a round bell, as skimage.filters.gabor_kernel makes them, and their answers. No DOM in here.

export const radians = (degrees) => (degrees * Math.PI) / 180;

// Pixels from the middle of the filter to its end, three standard deviations out.
export function reach(theta, sigma) {
  const [across, down] = [Math.cos(radians(theta)), Math.sin(radians(theta))].map((part) => Math.abs(3 * sigma * part));
  return Math.ceil(Math.max(across, down, 1));
}

// One factor of the filter: a bell times a wave along one axis, as [real, imaginary] from -reach to reach.
export function factor(far, sigma, waves) {
  return Array.from({ length: 2 * far + 1 }, (_, i) => {
    const at = i - far;
    const bell = Math.exp((-at * at) / (2 * sigma * sigma)) / (Math.sqrt(2 * Math.PI) * sigma);
    return [bell * Math.cos(2 * Math.PI * waves * at), bell * Math.sin(2 * Math.PI * waves * at)];
  });
}

export function factors(theta, wavelength, sigma) {
  const far = reach(theta, sigma);
  return {
    far,
    across: factor(far, sigma, Math.cos(radians(theta)) / wavelength),
    down: factor(far, sigma, Math.sin(radians(theta)) / wavelength),
  };
}

// The real part of the filter in a square of this side, its strongest value 1.
export function wave(theta, wavelength, sigma, side) {
  const { far, across, down } = factors(theta, wavelength, sigma);
  const middle = (side - 1) / 2;
  const most = across[far][0] * down[far][0];
  return Float64Array.from({ length: side * side }, (_, i) => {
    const [row, column] = [Math.floor(i / side) - middle + far, (i % side) - middle + far].map(Math.round);
    const [a, b] = [down[row], across[column]];
    return a && b ? (a[0] * b[0] - a[1] * b[1]) / most : 0;
  });
}

// The line reflected at its ends: d c b a | a b c d | d c b a.
const mirrored = (i, side) => {
  const place = ((i % (2 * side)) + 2 * side) % (2 * side);
  return place < side ? place : 2 * side - 1 - place;
};

// Real part and magnitude of the answer at every pixel; grey values from 0 to 1.
export function respond(pixels, height, width, theta, wavelength, sigma) {
  const { far, across, down } = factors(theta, wavelength, sigma);
  const [re, im] = [new Float64Array(height * width), new Float64Array(height * width)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let k = -far; k <= far; k++) {
        const grey = pixels[y * width + mirrored(x - k, width)] / 255;
        re[y * width + x] += grey * across[k + far][0];
        im[y * width + x] += grey * across[k + far][1];
      }
    }
  }
  const [real, strength] = [new Float64Array(height * width), new Float64Array(height * width)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let [a, b] = [0, 0];
      for (let k = -far; k <= far; k++) {
        const from = mirrored(y - k, height) * width + x;
        const [c, s] = down[k + far];
        a += re[from] * c - im[from] * s;
        b += re[from] * s + im[from] * c;
      }
      real[y * width + x] = a;
      strength[y * width + x] = Math.hypot(a, b);
    }
  }
  return { real, strength };
}

// Values as grey bytes: from 0 to the largest, or with 0 in the middle where `signed`.
export function shades(values, signed = false) {
  const most = values.reduce((found, value) => Math.max(found, Math.abs(value)), 1e-9);
  return Uint8ClampedArray.from(values, (value) => (signed ? 127.5 * (1 + value / most) : (255 * value) / most));
}
