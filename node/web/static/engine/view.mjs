/**
 * The view: image pixels to CSS pixels of the stage.
 *
 * A matrix is [a, b, c, d, e, f] as in canvas: x' = a x + c y + e, y' = b x + d y + f. A view is
 * {zoom, cx, cy, turns, mirror}: CSS pixels per image pixel, the image point at the stage's centre,
 * quarter turns clockwise, and left-right mirroring (before turning).
 */

export const MIN_ZOOM = 0.02;
export const MAX_ZOOM = 32;

/** The view that shows the whole image. */
export function fit(image, stage, turns = 0, mirror = false, margin = 12) {
	const turned = turns % 2 === 1;
	const width = turned ? image.height : image.width;
	const height = turned ? image.width : image.height;
	const zoom = Math.min(
		Math.max(stage.width - 2 * margin, 16) / width,
		Math.max(stage.height - 2 * margin, 16) / height,
	);
	return { zoom: clampZoom(zoom), cx: image.width / 2, cy: image.height / 2, turns, mirror };
}

/** The matrix of a view on a stage. */
export function matrix(view, stage) {
	const [cos, sin] = [[1, 0], [0, 1], [-1, 0], [0, -1]][((view.turns % 4) + 4) % 4];
	const flip = view.mirror ? -1 : 1;
	const a = view.zoom * cos * flip;
	const b = view.zoom * sin * flip;
	const c = -view.zoom * sin;
	const d = view.zoom * cos;
	return [
		a, b, c, d,
		stage.width / 2 - a * view.cx - c * view.cy,
		stage.height / 2 - b * view.cx - d * view.cy,
	];
}

/** The inverse matrix. */
export function inverse([a, b, c, d, e, f]) {
	const det = a * d - b * c;
	return [
		d / det, -b / det, -c / det, a / det,
		(c * f - d * e) / det, (b * e - a * f) / det,
	];
}

/** Map a point [x, y]. */
export function map([a, b, c, d, e, f], [x, y]) {
	return [a * x + c * y + e, b * x + d * y + f];
}

/** Zoom by `factor`, keeping the image point under `at` (CSS pixels) where it is. */
export function zoomAt(view, stage, at, factor) {
	const zoom = clampZoom(view.zoom * factor);
	const before = map(inverse(matrix(view, stage)), at);
	const moved = map(inverse(matrix({ ...view, zoom }, stage)), at);
	return {
		...view,
		zoom,
		cx: view.cx + before[0] - moved[0],
		cy: view.cy + before[1] - moved[1],
	};
}

/** Move the picture by CSS pixels, keeping some of it on the stage. */
export function pan(view, stage, image, dx, dy) {
	const back = inverse(matrix(view, stage));
	const x = view.cx - back[0] * dx - back[2] * dy;
	const y = view.cy - back[1] * dx - back[3] * dy;
	return { ...view, cx: clamp(x, 0, image.width), cy: clamp(y, 0, image.height) };
}

/** Turn by quarter turns. */
export function rotate(view, quarters = 1) {
	return { ...view, turns: (view.turns + quarters + 4) % 4 };
}

/** Mirror left and right as seen on the screen. */
export function flip(view) {
	return { ...view, mirror: !view.mirror, turns: view.turns % 2 ? (view.turns + 2) % 4 : view.turns };
}

/** The view that shows the box of `points` with room around it. */
export function zoomTo(view, stage, points) {
	const [x0, y0, x1, y1] = bounds(points);
	const turned = view.turns % 2 === 1;
	const width = (turned ? y1 - y0 : x1 - x0) + 40;
	const height = (turned ? x1 - x0 : y1 - y0) + 40;
	const zoom = clampZoom(0.35 * Math.min(stage.width / width, stage.height / height));
	return { ...view, zoom: Math.min(zoom, 6), cx: (x0 + x1) / 2, cy: (y0 + y1) / 2 };
}

/** [x0, y0, x1, y1] of points. */
export function bounds(points) {
	const xs = points.map((p) => p[0]);
	const ys = points.map((p) => p[1]);
	return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** Limit a number. */
export function clamp(value, low, high) {
	return Math.min(Math.max(value, low), high);
}

function clampZoom(zoom) {
	return clamp(zoom, MIN_ZOOM, MAX_ZOOM);
}
