/**
 * Millimetres are right or absent.
 *
 * Spacing is decided on the server: {mm_row, mm_col, kind}, kind being "calibrated", "detector"
 * or "unknown". Panoramic images are magnified and never read as calibrated lengths.
 */

/** What lengths drawn on an image are measured with: a length somebody knew, else the sensor's. */
export function scaleOf({ calibration, spacing }) {
	if (!calibration) return spacing;
	return { mm_row: calibration.mm_per_px, mm_col: calibration.mm_per_px, kind: "known", by: calibration.by };
}

/** Length of a line in millimetres, or null when the spacing is unknown. */
export function millimetres([[x0, y0], [x1, y1]], spacing) {
	if (!spacing || spacing.kind === "unknown") return null;
	return Math.hypot((x1 - x0) * spacing.mm_col, (y1 - y0) * spacing.mm_row);
}

/** A length in words: `4.4 mm`, `4.4 mm (detector plane)` or `220 px`. */
export function lengthWords(points, spacing, isPanoramic = false) {
	const mm = millimetres(points, spacing);
	if (mm === null) return `${Math.round(pixels(points))} px`;
	return `${mm.toFixed(1)} mm${planeWords(spacing, isPanoramic)}`;
}

/** What a millimetre on this image may be trusted for. */
export function planeWords(spacing, isPanoramic = false) {
	if (spacing.kind === "known") return ` (calibrated by ${spacing.by})`;
	if (isPanoramic) return " (panoramic, magnified)";
	return spacing.kind === "detector" ? " (detector plane)" : "";
}

/** The sentence of the status strip. */
export function spacingWords(spacing, isPanoramic = false) {
	if (!spacing || spacing.kind === "unknown") return "No scale: lengths in pixels";
	if (spacing.kind === "known") return `Scale: calibrated by ${spacing.by}`;
	if (isPanoramic) return "Scale: panoramic, magnified";
	return spacing.kind === "detector" ? "Scale: detector plane" : "Scale: calibrated";
}

function pixels([[x0, y0], [x1, y1]]) {
	return Math.hypot(x1 - x0, y1 - y0);
}
