/** Shapes of findings: outlines, handles, hits and edits. Pure functions of points. */

import { map, bounds } from "../engine/view.mjs";
import { hasDepth } from "../shared/kinds.mjs";

const MIN_SIZE = 3; // the server takes no smaller shape, in image pixels

/** The corners or vertices of a geometry in image pixels, as drawn. */
export function vertices(geometry) {
	if (geometry.type !== "box") return geometry.points;
	const [[x0, y0], [x1, y1]] = geometry.points;
	return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

/** The SVG path of a geometry through the view matrix; bone level carries end ticks. */
export function path(geometry, m, kind) {
	const points = vertices(geometry).map((point) => map(m, point));
	if (geometry.type === "line") return line(points);
	if (geometry.type === "box" && ["restoration", "crown", "root_filling", "post"].includes(kind)) return brackets(points);
	return `M${points.map(pair).join("L")}Z`;
}

function line([a, b]) {
	const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
	const nx = (-(b[1] - a[1]) / length) * 7;
	const ny = ((b[0] - a[0]) / length) * 7;
	const tick = ([x, y]) => `M${pair([x - nx, y - ny])}L${pair([x + nx, y + ny])}`;
	return `M${pair(a)}L${pair(b)}${tick(a)}${tick(b)}`;
}

function brackets(points) {
	return points.map((corner, index) => {
		const before = points[(index + 3) % 4];
		const after = points[(index + 1) % 4];
		const part = (to) => [corner[0] + (to[0] - corner[0]) * 0.3, corner[1] + (to[1] - corner[1]) * 0.3];
		return `M${pair(part(before))}L${pair(corner)}L${pair(part(after))}`;
	}).join("");
}

function pair([x, y]) {
	return `${x.toFixed(1)} ${y.toFixed(1)}`;
}

/**
 * Handles of a geometry: image points with the indices of what they move. A box has eight (four
 * when it is under 48 CSS pixels), other shapes one per vertex.
 */
export function handles(geometry, zoom) {
	if (geometry.type !== "box") return geometry.points.map((at, index) => ({ at, index, name: `point ${index + 1}` }));
	const [[x0, y0], [x1, y1]] = geometry.points;
	const mx = (x0 + x1) / 2;
	const my = (y0 + y1) / 2;
	const all = [
		{ at: [x0, y0], x: 0, y: 0, name: "top left" }, { at: [x1, y0], x: 1, y: 0, name: "top right" },
		{ at: [x1, y1], x: 1, y: 1, name: "bottom right" }, { at: [x0, y1], x: 0, y: 1, name: "bottom left" },
		{ at: [mx, y0], y: 0, name: "top" }, { at: [x1, my], x: 1, name: "right" },
		{ at: [mx, y1], y: 1, name: "bottom" }, { at: [x0, my], x: 0, name: "left" },
	];
	const isSmall = Math.min(x1 - x0, y1 - y0) * zoom < 48;
	return (isSmall ? all.slice(0, 4) : all).map((handle, index) => ({ ...handle, index }));
}

/** Whether a shape offers its handles: a polygon's many would cover the lesion until it is edited. */
export function showsHandles({ geometry }, isEditing) {
	return isEditing || geometry.type !== "polygon";
}

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

/** CSS pixels from a stage point to the outline of a shape. */
export function outlineDistance(geometry, m, at) {
	const points = vertices(geometry).map((point) => map(m, point));
	const isClosed = geometry.type !== "line";
	let best = Infinity;
	for (let i = 0; i < points.length - (isClosed ? 0 : 1); i += 1) {
		best = Math.min(best, distance(at, points[i], points[(i + 1) % points.length]));
	}
	return best;
}

/** Whether an image point lies inside a closed shape (even-odd rule). */
export function contains(geometry, [x, y]) {
	if (geometry.type === "line") return false;
	const points = vertices(geometry);
	let isInside = false;
	for (let i = 0, j = points.length - 1; i < points.length; j = i, i += 1) {
		const [xi, yi] = points[i];
		const [xj, yj] = points[j];
		if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) isInside = !isInside;
	}
	return isInside;
}

function distance([x, y], [x0, y0], [x1, y1]) {
	const dx = x1 - x0;
	const dy = y1 - y0;
	const t = Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1), 0), 1);
	return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
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
