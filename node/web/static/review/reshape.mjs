/** Shapes drawn anew, moved and changed; and the tooth a new one belongs to. Pure functions of points. */

import { bounds } from "../engine/view.mjs";
import { hasDepth } from "../shared/kinds.mjs";
import { distance } from "./shapes.mjs";

const MIN_SIZE = 3; // the server takes no smaller shape, in image pixels

/** Move one handle by image pixels; the shape stays inside the image and at least 3 pixels wide. */
export function moveHandle(geometry, handle, dx, dy, image) {
	if (geometry.type !== "box") {
		const points = geometry.points.map((p, i) => (i === handle.index ? inside([p[0] + dx, p[1] + dy], image) : p));
		return { ...geometry, points };
	}
	const corners = geometry.points.map((p) => [...p]);
	if (handle.x !== undefined) corners[handle.x][0] += dx;
	if (handle.y !== undefined) corners[handle.y][1] += dy;
	const [a, b] = corners.map((p) => inside(p, image));
	if (b[0] - a[0] < MIN_SIZE || b[1] - a[1] < MIN_SIZE) return geometry;
	return { ...geometry, points: [a, b] };
}

/** Move the whole shape, no further than the image's edge. */
export function moveShape(geometry, dx, dy, image) {
	const [x0, y0, x1, y1] = bounds(geometry.points);
	const x = Math.min(Math.max(dx, -x0), image.columns - x1);
	const y = Math.min(Math.max(dy, -y0), image.rows - y1);
	return { ...geometry, points: geometry.points.map((p) => [p[0] + x, p[1] + y]) };
}

/** A box of two corners in any order, or null when it is too small. */
export function boxOf(a, b, image) {
	const p = inside(a, image);
	const q = inside(b, image);
	const points = [[Math.min(p[0], q[0]), Math.min(p[1], q[1])], [Math.max(p[0], q[0]), Math.max(p[1], q[1])]];
	if (points[1][0] - points[0][0] < MIN_SIZE || points[1][1] - points[0][1] < MIN_SIZE) return null;
	return { type: "box", points };
}

/** Insert a vertex on the polygon's edge nearest to `at`. */
export function insertVertex(geometry, at) {
	let best = [Infinity, 0];
	geometry.points.forEach((p, i) => {
		const d = distance(at, p, geometry.points[(i + 1) % geometry.points.length]);
		if (d < best[0]) best = [d, i];
	});
	const points = [...geometry.points];
	points.splice(best[1] + 1, 0, at);
	return points.length > 500 ? geometry : { ...geometry, points };
}

/** Remove a vertex; a polygon keeps three. */
export function removeVertex(geometry, index) {
	if (geometry.type !== "polygon" || geometry.points.length <= 3) return geometry;
	return { ...geometry, points: geometry.points.filter((_, i) => i !== index) };
}

/** Limit a point to the image. */
export function inside([x, y], image) {
	return [Math.min(Math.max(x, 0), image.columns), Math.min(Math.max(y, 0), image.rows)];
}

/** Round to a quarter of a pixel, which is finer than a hand. */
export function rounded(geometry) {
	return { type: geometry.type, points: geometry.points.map((p) => p.map((v) => Math.round(v * 4) / 4)) };
}

/**
 * Guess tooth and surface of a new mark from the teeth found on the image: the tooth whose box is
 * nearest to the shape's middle. Mesial is the side of the midline: in a mounted image the viewer's
 * left is the patient's right.
 */
export function guessPlace(geometry, teeth, kind) {
	if (!teeth.length) return { tooth: null, surfaces: "" };
	const [x0, y0, x1, y1] = bounds(geometry.points);
	const middle = [(x0 + x1) / 2, (y0 + y1) / 2];
	const away = ({ box: [[a, b], [c, d]] }) =>
		Math.hypot(Math.max(a - middle[0], 0, middle[0] - c), Math.max(b - middle[1], 0, middle[1] - d))
		+ 0.01 * Math.hypot(middle[0] - (a + c) / 2, middle[1] - (b + d) / 2);
	const nearest = teeth.reduce((best, tooth) => (away(tooth) < away(best) ? tooth : best));
	return { tooth: nearest.tooth, surfaces: hasDepth(kind) ? surfaceOf(middle[0], nearest) : "" };
}

function surfaceOf(x, { tooth, box: [[a], [c]] }) {
	const part = (x - a) / (c - a || 1);
	if (part > 0.35 && part < 0.65) return Number(tooth[1]) >= 4 ? "O" : "I";
	const isRight = ["1", "4", "5", "8"].includes(tooth[0]);
	return (part >= 0.65) === isRight ? "M" : "D";
}
