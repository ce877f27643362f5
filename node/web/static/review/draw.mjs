/** Drawing and editing shapes, the same by mouse and by keys: `draft` holds what is under way. Fetched with the first tool. */

import { batch } from "../vendor/preact.mjs";
import { millimetres, lengthWords, scaleOf } from "../engine/measure.mjs";
import { kindOf } from "../shared/kinds.mjs";
import { say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { add, change } from "./changes.mjs";
import { look } from "./looks.mjs";
import * as shapes from "./reshape.mjs";
import { handles } from "./shapes.mjs";
import { stop, toImage, toStage } from "./tools.mjs";

/** Put a point: the first corner, the second, or the next vertex. */
export function place(point) {
	const draft = at.draft.value;
	if (!draft) return undefined;
	const image = at.current.value;
	const p = shapes.inside(point, image);
	const points = [...draft.points, p];
	if (at.tool.value === "add-polygon") {
		const first = points[0];
		const isClosing = points.length > 3 && distance(toStage(first), toStage(p)) < 9;
		if (isClosing) return close();
		at.draft.value = { ...draft, points, geometry: null, cross: p };
		return say(`Point ${points.length}.`);
	}
	if (points.length < 2) {
		at.draft.value = { ...draft, points, cross: p };
		return say("First point.");
	}
	return finish(shapeOf(points[0], p, image));
}

function shapeOf(a, b, image) {
	if (at.tool.value === "add-box") return shapes.boxOf(a, b, image);
	return distance(a, b) >= 3 ? { type: "line", points: [a, b] } : null;
}

/** Follow the pointer: the crosshair and the shape so far. */
export function follow(point) {
	const draft = at.draft.value;
	if (draft) at.draft.value = { ...draft, cross: shapes.inside(point, at.current.value) };
}

/** Close the polygon. */
export function close() {
	if (at.tool.value !== "add-polygon") return;
	const { points } = at.draft.value;
	if (points.length < 3) say("A polygon needs three points.");
	else finish({ type: "polygon", points });
}

function finish(geometry) {
	if (!geometry) {
		at.draft.value = { ...at.draft.value, points: [] };
		return say("Too small. Please draw it again.");
	}
	const shape = shapes.rounded(geometry);
	if (at.tool.value === "measure") {
		at.draft.value = { ...at.draft.value, points: [], geometry: shape };
		const image = at.current.value;
		return say(lengthWords(shape.points, scaleOf(image), image.view === "panoramic"));
	}
	if (at.tool.value === "calibrate") {
		return batch(() => {
			at.draft.value = { id: null, geometry: shape, points: [], cross: null };
			at.tool.value = "window";
			at.menu.value = { kind: "calibrate", geometry: shape };
		});
	}
	return batch(() => {
		at.draft.value = { id: null, geometry: shape, points: [], cross: null };
		at.tool.value = "window";
		at.menu.value = { kind: "add", geometry: shape };
	});
}

/** Make the drawn shape a finding of this class; tooth and surface are guessed and then confirmed. */
export function addAs(kind) {
	const image = at.current.value;
	const { geometry } = at.menu.value;
	if ((geometry.type === "line") !== (kindOf(kind).shape === "line")) {
		return say(geometry.type === "line" ? "A line is a bone level." : "A bone level is a line: press N until the line tool.");
	}
	const mm = geometry.type === "line" ? millimetres(geometry.points, image.spacing) : null;
	const finding = add({
		image_id: image.id, kind, geometry, ...shapes.guessPlace(geometry, image.teeth, kind), depth: null,
		value_mm: mm === null ? null : Math.round(mm * 100) / 100, value_percent: null, comment: "",
	});
	return batch(() => {
		at.draft.value = null;
		at.menu.value = finding ? { kind: "tooth", id: finding.id, isNew: true } : null;
		if (finding) at.selectedId.value = finding.id;
	});
}

/** Arrow keys: the crosshair, the picked handle or the whole shape; a step is along the screen. */
export function nudge(dx, dy) {
	const draft = at.draft.value;
	if (!draft) return undefined;
	const image = at.current.value;
	const [ox, oy] = toImage([0, 0]);
	const [px, py] = toImage([dx, dy]);
	const { zoom } = look.value.view;
	if (at.tool.value !== "edit") {
		const scale = 6;
		return follow([draft.cross[0] + (px - ox) * scale, draft.cross[1] + (py - oy) * scale]);
	}
	const [x, y] = [(px - ox) * zoom, (py - oy) * zoom];
	const geometry = draft.handle === null
		? shapes.moveShape(draft.geometry, x, y, image)
		: shapes.moveHandle(draft.geometry, handles(draft.geometry, zoom)[draft.handle], x, y, image);
	at.draft.value = { ...draft, geometry };
	return undefined;
}

/** Tab: pick the next handle; after the last, the whole shape. */
export function nextHandle(step) {
	const draft = at.draft.value;
	const all = handles(draft.geometry, look.value.view.zoom);
	const now = draft.handle === null ? all.length : draft.handle;
	const next = (now + step + all.length + 1) % (all.length + 1);
	at.draft.value = { ...draft, handle: next === all.length ? null : next };
	say(next === all.length ? "Whole shape." : all[next].name);
}

/** Delete a picked vertex of a polygon. */
export function deleteVertex() {
	const draft = at.draft.value;
	if (draft.handle === null) return;
	at.draft.value = { ...draft, geometry: shapes.removeVertex(draft.geometry, draft.handle), handle: null };
}

/** Keep the edited shape: one operation. */
export function keep() {
	const draft = at.draft.value;
	const finding = draft && at.findings.value.get(draft.id);
	stop();
	if (!finding) return;
	const geometry = shapes.rounded(draft.geometry);
	if (JSON.stringify(geometry.points) === JSON.stringify(finding.geometry.points)) return;
	change("set_geometry", finding, { geometry }, `${at.findingWords(finding)}: shape changed.`);
}

function distance([x0, y0], [x1, y1]) {
	return Math.hypot(x1 - x0, y1 - y0);
}

export { insertVertex, moveHandle, moveShape } from "./reshape.mjs";
