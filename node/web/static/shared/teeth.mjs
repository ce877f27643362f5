/** Tooth codes: ISO 3950 inside, Universal numbers for US readers; the mirror of node/domain/teeth.py. */

const PERMANENT = { 1: [9, -1], 2: [8, 1], 3: [25, -1], 4: [24, 1] };
const DECIDUOUS = { 5: [5, -1], 6: [4, 1], 7: [15, -1], 8: [14, 1] };
const LETTERS = "ABCDEFGHIJKLMNOPQRST";

/** ISO 3950 code (`46`, supernumerary `46S`) to the Universal number (`30`, `80`). */
export function universal(code) {
	if (!code) return "";
	const isExtra = code.endsWith("S");
	const quadrant = Number(code[0]);
	const position = Number(code[1]);
	if (quadrant >= 5) {
		const [start, step] = DECIDUOUS[quadrant];
		return LETTERS[start + step * position] + (isExtra ? "S" : "");
	}
	const [start, step] = PERMANENT[quadrant];
	const number = start + step * position;
	return String(isExtra ? number + 50 : number);
}

const codes = [];
for (const q of [1, 2, 3, 4]) for (let p = 1; p <= 8; p += 1) codes.push(`${q}${p}`);
for (const q of [5, 6, 7, 8]) for (let p = 1; p <= 5; p += 1) codes.push(`${q}${p}`);
const PALMER = { 1: "UR", 2: "UL", 3: "LL", 4: "LR" };

/** A tooth in a numbering system: `#30`, `46` or `LR6`. */
export function toothIn(system, code) {
	if (!code) return "";
	if (system === "fdi") return code;
	if (system !== "palmer") return `#${universal(code)}`;
	const quadrant = Number(code[0]);
	const place = quadrant > 4 ? LETTERS[Number(code[1]) - 1] : code[1];
	return PALMER[quadrant > 4 ? quadrant - 4 : quadrant] + place + code.slice(2);
}

/** Universal text (`30`, `A`) to the ISO 3950 code, or null when there is no such tooth. */
export function fromUniversal(text) {
	return codes.find((code) => universal(code) === text.trim().toUpperCase()) ?? null;
}

/** The code of a tooth as people write it; null for nothing, undefined for no such tooth. */
export function readTooth(system, text) {
	const wanted = text.trim().toUpperCase().replace(/^#/, "");
	if (!wanted) return null;
	return codes.find((code) => toothIn(system, code).replace("#", "") === wanted);
}

/** The tooth chart's rows, patient's right on the viewer's left. */
export const UPPER = ["18", "17", "16", "15", "14", "13", "12", "11", "21", "22", "23", "24", "25", "26", "27", "28"];
export const LOWER = ["48", "47", "46", "45", "44", "43", "42", "41", "31", "32", "33", "34", "35", "36", "37", "38"];
export const SURFACES = [["M", "mesial"], ["O", "occlusal"], ["D", "distal"], ["B", "buccal"], ["L", "lingual"], ["I", "incisal"]];
