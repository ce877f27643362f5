/** Shapes of findings: outlines, handles and hits. Pure functions of points. */

import { map } from "../engine/view.mjs";

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

/** From a point to a stretch. */
export function distance([x, y], [x0, y0], [x1, y1]) {
	const dx = x1 - x0;
	const dy = y1 - y0;
	const t = Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1), 0), 1);
	return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
}
