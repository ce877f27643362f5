/**
 * The pointer on the stage. Primary drag is the tool in hand (window and level unless another is
 * armed), on a handle or the selected outline it moves that; right or middle drag pans; the wheel
 * zooms at the pointer; a double click fits. An armed tool wins over shapes beneath.
 * `pointercancel` restores what was before the gesture.
 */

import { batch } from "../vendor/preact.mjs";
import { matrix, pan, zoomAt } from "../engine/view.mjs";
import * as at from "./store.mjs";
import * as shapes from "./shapes.mjs";
import { drawn, stop, toImage, toStage } from "./tools.mjs";
import { dragWindow, fitAgain, frames, look, setLook, sizeOf, stageSize } from "./looks.mjs";

const HANDLE_PX = 12;
const OUTLINE_PX = 7;
const CLICK_PX = 4;
/** Where the pointer was last on the stage, in CSS pixels; null before it came. */
export let pointer = null;

/** Listen on the stage's element, which stands as long as the page. */
export function attach(root) {
	const touches = new Map();
	let gesture = null;

	const here = (event) => {
		const rect = root.getBoundingClientRect();
		return [event.clientX - rect.left, event.clientY - rect.top];
	};

	const down = (event) => {
		if (!look.value || event.target.closest(".popover")) return;
		if (event.button === 1) event.preventDefault();
		root.focus({ preventScroll: true });
		root.setPointerCapture(event.pointerId);
		const point = here(event);
		if (event.pointerType === "touch") {
			touches.set(event.pointerId, point);
			if (touches.size === 2) {
				cancel();
				gesture = pinch(touches);
				return;
			}
		}
		frames.pause(true);
		gesture = event.button === 0 ? begin(point) : panning(point);
	};

	const move = (event) => {
		const point = here(event);
		pointer = point;
		if (touches.has(event.pointerId)) touches.set(event.pointerId, point);
		if (gesture) gesture.move(point);
		else if (at.draft.value?.cross && look.value) drawn((draw) => draw.follow(toImage(point)));
	};

	const up = (event) => {
		touches.delete(event.pointerId);
		const ended = gesture;
		gesture = null;
		frames.pause(false);
		ended?.end?.(here(event));
	};

	const cancel = () => {
		const ended = gesture;
		gesture = null;
		touches.clear();
		frames.pause(false);
		ended?.cancel?.();
	};

	const wheel = (event) => {
		if (!look.value || event.target.closest(".popover")) return;
		event.preventDefault();
		const factor = Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015));
		setLook({ view: zoomAt(look.value.view, stageSize.value, here(event), factor) });
	};

	const double = (event) => {
		if (!look.value || event.target.closest(".popover")) return;
		if (at.tool.value === "add-polygon") drawn((draw) => draw.close());
		else if (at.tool.value === "window") fitAgain();
	};

	const noMenu = (event) => event.preventDefault();
	const all = {
		pointerdown: down, pointermove: move, pointerup: up, pointercancel: cancel,
		wheel, dblclick: double, contextmenu: noMenu,
	};
	for (const [name, handler] of Object.entries(all)) root.addEventListener(name, handler, { passive: false });
}

/** What a primary press begins. */
function begin(point) {
	const tool = at.tool.value;
	if (tool.startsWith("add-") || ["measure", "calibrate"].includes(tool)) return drawing(point);
	const grabbed = at.canDecide.value && at.isOverlayOn.value && !at.isBare.value ? grab(point) : null;
	return grabbed ?? windowing(point);
}

function drawing(point) {
	const isDragTool = at.tool.value !== "add-polygon";
	let isFirst = false;
	drawn((draw) => {
		draw.place(toImage(point));
		isFirst = at.draft.value?.points.length === 1;
	});
	return {
		move: (now) => drawn((draw) => draw.follow(toImage(now))),
		end: (now) => drawn((draw) => isDragTool && isFirst && far(point, now) && draw.place(toImage(now))),
		cancel: stop,
	};
}

/** A handle or the outline of the selected shape under the pointer, as a gesture. */
function grab(point) {
	const finding = at.selected.value;
	if (!finding || finding.image_id !== at.currentId.value) return null;
	const editing = at.draft.value?.id === finding.id ? at.draft.value : null;
	const geometry = editing?.geometry ?? finding.geometry;
	const m = matrix(look.value.view, stageSize.value);
	const { zoom } = look.value.view;
	const nearest = shapes.handles(geometry, zoom)
		.map((handle) => ({ handle, away: Math.hypot(...minus(toStage(handle.at), point)) }))
		.sort((a, b) => a.away - b.away)[0];
	if (nearest.away <= HANDLE_PX && shapes.showsHandles(finding, at.tool.value === "edit")) return shaping(finding, geometry, point, nearest.handle);
	const isOn = shapes.outlineDistance(geometry, m, point) <= OUTLINE_PX;
	if (isOn || (editing && shapes.contains(geometry, toImage(point)))) return shaping(finding, geometry, point, null);
	return null;
}

function shaping(finding, geometry, from, handle) {
	const image = at.current.value;
	const before = at.draft.value;
	const start = toImage(from);
	let hasMoved = false;
	return {
		move: (now) => {
			if (!hasMoved && !far(from, now, 2)) return;
			hasMoved = true;
			const [x, y] = minus(toImage(now), start);
			drawn((draw) => {
				const changed = handle ? draw.moveHandle(geometry, handle, x, y, image) : draw.moveShape(geometry, x, y, image);
				at.draft.value = { id: finding.id, geometry: changed, handle: handle?.index ?? null, points: [], cross: null };
			});
		},
		end: () => {
			if (hasMoved) drawn((draw) => draw.keep());
			else if (at.tool.value === "edit" && handle) at.draft.value = { ...at.draft.value, handle: handle.index };
			else if (at.tool.value === "edit" && geometry.type === "polygon") {
				drawn((draw) => (at.draft.value = { ...at.draft.value, geometry: draw.insertVertex(geometry, start) }));
			}
		},
		cancel: () => (at.draft.value = before),
	};
}

function windowing(from) {
	const before = look.value;
	const canWindow = Boolean(before.display);
	let last = from;
	let hasMoved = false;
	return {
		move: (now) => {
			if (!hasMoved && !far(from, now)) return;
			hasMoved = true;
			if (canWindow) dragWindow(before.display, ...minus(now, from));
			else setLook({ view: pan(look.value.view, stageSize.value, sizeOf(at.current.value), ...minus(now, last)) });
			last = now;
		},
		end: () => {
			if (!hasMoved) select(from);
		},
		cancel: () => setLook({ display: before.display, view: before.view }),
	};
}

function panning(from) {
	const before = look.value.view;
	return {
		move: (now) => setLook({ view: pan(before, stageSize.value, sizeOf(at.current.value), ...minus(now, from)) }),
		cancel: () => setLook({ view: before }),
	};
}

function pinch(touches) {
	const before = look.value.view;
	const [a, b] = [...touches.values()];
	const span = Math.hypot(...minus(a, b)) || 1;
	const centre = middle(a, b);
	return {
		move: () => {
			if (touches.size < 2) return;
			const [p, q] = [...touches.values()];
			const zoomed = zoomAt(before, stageSize.value, centre, Math.hypot(...minus(p, q)) / span);
			setLook({ view: pan(zoomed, stageSize.value, sizeOf(at.current.value), ...minus(middle(p, q), centre)) });
		},
		cancel: () => setLook({ view: before }),
	};
}

/** Choose the finding under a click: the nearest outline, else the smallest shape around it. */
function select(point) {
	if (at.isBare.value || !at.isOverlayOn.value) return;
	const m = matrix(look.value.view, stageSize.value);
	const shown = at.onImage.value.filter(at.isListed);
	const near = shown
		.map((finding) => ({ finding, away: shapes.outlineDistance(finding.geometry, m, point) }))
		.filter(({ finding, away }) => away <= OUTLINE_PX || shapes.contains(finding.geometry, toImage(point)))
		.sort((a, b) => a.away - b.away)[0];
	batch(() => {
		at.selectedId.value = near?.finding.id ?? null;
		at.menu.value = null;
	});
}

function minus([x0, y0], [x1, y1]) {
	return [x0 - x1, y0 - y1];
}

function middle([x0, y0], [x1, y1]) {
	return [(x0 + x1) / 2, (y0 + y1) / 2];
}

function far(a, b, least = CLICK_PX) {
	return Math.hypot(...minus(a, b)) > least;
}
