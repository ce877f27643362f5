/**
 * From DICOM grey parameters to one table: stored sample -> 8-bit grey.
 *
 * The table has 65,536 entries. Its index is the sample as the server sends it: unsigned 16 bits,
 * signed data shifted by `sample_offset`. It is rebuilt on each window change; painting is one look-up.
 * Source: PS3.3 C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric interpretation).
 */

export const ENTRIES = 65536;

/**
 * @typedef {{first:number, values:ArrayLike<number>, bits:number}} Lut
 * @typedef {{center:number, width:number, label?:string}} Window
 * @typedef {{sample_offset:number, slope:number, intercept:number, modality_lut:Lut|null,
 *   function:"LINEAR"|"LINEAR_EXACT"|"SIGMOID", windows:Window[], voi_lut:Lut|null,
 *   is_inverted:boolean, padding:[number, number]|null}} Grey
 * The parameters of an image as the server sends them (`Grey` in node/web/shapes.py).
 * @typedef {{kind:"lut"}|{kind:"window", center:number, width:number, func:string}} Display
 */

/** Look `value` up in a DICOM LUT: values before the first map to the first entry, after to the last. */
export function lookUp(lut, value) {
  const index = Math.trunc(value) - lut.first;
  const last = lut.values.length - 1;
  return lut.values[index < 0 ? 0 : index > last ? last : index];
}

/** Stored sample (table index) to modality value. */
export function modalityValue(grey, index) {
  const sample = index - grey.sample_offset;
  if (grey.modality_lut) return lookUp(grey.modality_lut, sample);
  return sample * grey.slope + grey.intercept;
}

/**
 * Window one value to 0..1. LINEAR is PS3.3 C.11.2.1.2.1 (centre - 0.5, width - 1),
 * LINEAR_EXACT C.11.2.1.3.2, SIGMOID C.11.2.1.3.1. Widths below the least allowed are clamped.
 */
export function windowed(value, center, width, func) {
  if (func === "SIGMOID") {
    return 1 / (1 + Math.exp((-4 * (value - center)) / Math.max(width, 1e-6)));
  }
  let c = center;
  let w = Math.max(width, 1e-6);
  if (func !== "LINEAR_EXACT") {
    c -= 0.5;
    w = Math.max(width, 1) - 1;
  }
  if (value <= c - w / 2) return 0;
  if (value > c + w / 2) return 1;
  return (value - c) / w + 0.5;
}

/** What an image is first shown with: its VOI LUT, else its first window, else percentiles. */
export function firstDisplay(grey, samples = null) {
  if (grey.voi_lut) return { kind: "lut" };
  if (grey.windows.length) return windowDisplay(grey, grey.windows[0]);
  const found = samples ? percentileWindow(grey, samples) : { center: 2048, width: 4096 };
  return { kind: "window", ...found, func: "LINEAR_EXACT" };
}

/** The display of one of the image's windows. */
export function windowDisplay(grey, window) {
  return { kind: "window", center: window.center, width: window.width, func: grey.function };
}

/** The window that spans the VOI LUT's input; where the first drag on a LUT image starts. */
export function lutWindow(grey) {
  const size = grey.voi_lut.values.length;
  return { kind: "window", center: grey.voi_lut.first + size / 2, width: size, func: "LINEAR" };
}

/** The 0.5 to 99.5 percentile of the samples that are not padding, as a LINEAR_EXACT window. */
export function percentileWindow(grey, samples) {
  const counts = new Uint32Array(ENTRIES);
  for (let i = 0; i < samples.length; i += 1) counts[samples[i]] += 1;
  if (grey.padding) {
    for (let i = 0; i < ENTRIES; i += 1) if (isPadding(grey, i)) counts[i] = 0;
  }
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (!total) return { center: 0.5, width: 1 };
  const a = modalityValue(grey, quantile(counts, total, 0.005));
  const b = modalityValue(grey, quantile(counts, total, 0.995));
  const low = Math.min(a, b);
  const high = Math.max(a, b);
  return { center: (low + high) / 2, width: Math.max(high - low, 1) };
}

/** Linear-interpolated quantile of a histogram over table indices. */
function quantile(counts, total, q) {
  const rank = q * (total - 1);
  const low = Math.floor(rank);
  const at = (position) => {
    let seen = 0;
    for (let i = 0; i < ENTRIES; i += 1) {
      seen += counts[i];
      if (seen > position) return i;
    }
    return ENTRIES - 1;
  };
  const first = at(low);
  return first + (rank - low) * (at(Math.min(low + 1, total - 1)) - first);
}

function isPadding(grey, index) {
  if (!grey.padding) return false;
  const sample = index - grey.sample_offset;
  return sample >= grey.padding[0] && sample <= grey.padding[1];
}

/** Build the table for one display; grey values are rounded half up. */
export function buildTable(grey, display, userInvert = false, out = new Uint8Array(ENTRIES)) {
  const lut = display.kind === "lut" ? grey.voi_lut : null;
  const top = lut ? 2 ** lut.bits - 1 : 1;
  for (let i = 0; i < ENTRIES; i += 1) {
    const value = modalityValue(grey, i);
    const unit = lut
      ? lookUp(lut, value) / top
      : windowed(value, display.center, display.width, display.func);
    const shown = grey.is_inverted ? 1 - unit : unit;
    let level = Math.floor(shown * 255 + 0.5);
    level = level < 0 ? 0 : level > 255 ? 255 : level;
    out[i] = isPadding(grey, i) ? 0 : userInvert ? 255 - level : level;
  }
  return out;
}

/** The words of the read-out. */
export function displayWords(display) {
  if (!display) return "";
  if (display.kind === "lut") return "LUT";
  return `W ${Math.round(display.width)}  L ${Math.round(display.center)}`;
}
