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
 * @typedef {{bits_stored:number, is_signed:boolean, sample_offset:number, slope:number, intercept:number, modality_lut:Lut|null,
 *   function:"LINEAR"|"LINEAR_EXACT"|"SIGMOID", windows:Window[], voi_lut:Lut|null,
 *   is_inverted:boolean, padding:[number, number]|null}} Grey
 * The parameters of an image as the server sends them (`Grey` in node/web/shapes.py).
 * @typedef {{kind:"lut"}|{kind:"window", center:number, width:number, func:string}} Display
 */

/** Look a value up in a DICOM LUT: before the first entry is the first, after the last the last. */
export function lookUp(lut, value) {
	const index = Math.min(Math.max(value - lut.first, 0), lut.values.length - 1);
	return lut.values[Math.trunc(index)];
}

/** Stored sample to modality value. */
export function modalityValue(grey, sample) {
	if (grey.modality_lut) return lookUp(grey.modality_lut, sample);
	return sample * grey.slope + grey.intercept;
}

/** The ends of the modality transform's range, in the order of stored values. */
function outputRange(grey) {
	if (grey.modality_lut) return [0, 2 ** grey.modality_lut.bits - 1];
	const low = grey.is_signed ? -(2 ** (grey.bits_stored - 1)) : 0;
	const high = low + 2 ** grey.bits_stored - 1;
	return [low * grey.slope + grey.intercept, high * grey.slope + grey.intercept];
}

/**
 * Window one value into the range low..low + span. LINEAR is PS3.3 C.11.2.1.2.1 (centre - 0.5,
 * width - 1), LINEAR_EXACT C.11.2.1.3.2, SIGMOID C.11.2.1.3.1. Widths below 1 are clamped.
 */
function windowed(value, { center, width, func }, low, span) {
	if (func === "SIGMOID") {
		const exponent = Math.min(Math.max((-4 * (value - center)) / Math.max(width, 1e-9), -700), 700);
		return span / (1 + Math.exp(exponent)) + low;
	}
	const isLinear = func === "LINEAR";
	const c = isLinear ? center - 0.5 : center;
	const w = isLinear ? Math.max(width, 1) - 1 : width;
	if (value <= c - w / 2) return low;
	if (value > c + w / 2) return low + span;
	return ((value - c) / w + 0.5) * span + low;
}

/** What an image is first shown with: its VOI LUT, else its first window. */
export function firstDisplay(grey) {
	return grey.voi_lut ? { kind: "lut" } : windowDisplay(grey, grey.windows[0]);
}

/** The display of one of the image's windows; one found from percentiles (`auto`) is linear. */
export function windowDisplay(grey, { center, width, label }) {
	return { kind: "window", center, width, func: label === "auto" ? "LINEAR" : grey.function };
}

/** The window that spans the VOI LUT's input; where the first drag on a LUT image starts. */
export function lutWindow(grey) {
	const size = grey.voi_lut.values.length;
	return { kind: "window", center: grey.voi_lut.first + size / 2, width: size, func: "LINEAR" };
}

/**
 * Build the table for one display; grey values are rounded half up, padding is black. The
 * arithmetic is that of node/dicom/greyscale.py, operation for operation.
 */
export function buildTable(grey, display, userInvert = false, out = new Uint8Array(ENTRIES)) {
	const lut = display.kind === "lut" ? grey.voi_lut : null;
	const top = lut ? 2 ** lut.bits - 1 : 0;
	const [low, high] = outputRange(grey);
	const [first, last] = grey.padding ?? [1, 0];
	for (let i = 0; i < ENTRIES; i += 1) {
		const sample = i - grey.sample_offset;
		const value = modalityValue(grey, sample);
		const raw = lut ? lookUp(lut, value) / top : (windowed(value, display, low, high - low) - low) / (high - low);
		const unit = Math.min(Math.max(raw, 0), 1);
		const level = Math.floor((grey.is_inverted ? 1 - unit : unit) * 255 + 0.5);
		out[i] = sample >= first && sample <= last ? 0 : userInvert ? 255 - level : level;
	}
	return out;
}

/** The words of the read-out. */
export function displayWords(display) {
	if (!display) return "";
	if (display.kind === "lut") return "LUT";
	return `W ${Math.round(display.width)}  L ${Math.round(display.center)}`;
}
