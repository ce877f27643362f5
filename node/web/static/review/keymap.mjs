/** The key map of the review page: one table, shown by `?` with its words (keywords.mjs), tested for duplicates. */

import { computed } from "../vendor/preact.mjs";
import { lock, lockState, prefers } from "../shared/session.mjs";
import { combo, isForControl, isTyping } from "../shared/keys.mjs";
import * as at from "./store.mjs";
import * as act from "./actions.mjs";
import { arm, armAdd, canDraw, drawn, edit, stop } from "./tools.mjs";
import { redo, undo } from "./changes.mjs";
import { choices, closeMenu, typeAhead } from "./menus.mjs";

const { viewing } = act;
const classKeys = ["C", "B", "P", "K", "R", "O"];

export const KEYS = [
	{ id: "accept", combos: ["A"], run: act.accept },
	{ id: "accept-existing", combos: ["Shift+A"], run: () => import("./remedies.mjs").then((part) => part.acceptExisting()) },
	{ id: "reject", combos: ["X"], run: act.reject },
	{ id: "next-finding", combos: ["J", "ArrowDown"], run: () => act.stepFinding(1) },
	{ id: "previous-finding", combos: ["K", "ArrowUp"], run: () => act.stepFinding(-1) },
	{ id: "next-undecided", combos: ["Shift+J"], run: act.nextOpen },
	{ id: "add", combos: ["N"], run: armAdd },
	{ id: "edit", combos: ["E"], run: edit },
	...[["class", "C"], ["tooth", "D"], ["depth", "V"], ["plan", "G"], ["comment", "/"]].map(([id, key]) => ({
		id, combos: [key], run: () => act.openMenu(id),
	})),
	{ id: "remove", combos: ["Delete", "Backspace"], run: act.remove },
	{ id: "bare", combos: ["Space"], run: () => (at.isBare.value = true), hold: true },
	{ id: "marks", combos: ["O"], run: () => act.toggle(at.isOverlayOn, "Marks") },
	{ id: "teeth", combos: ["U"], run: () => act.toggle(at.showsTeeth, "Tooth numbers") },
	...classKeys.map((letter, index) => ({
		id: `class-${letter}`, combos: [`Shift+${index + 1}`], run: () => act.toggleLetter(letter),
	})),
	{ id: "stricter", combos: [","], run: () => act.stepStop(-1) },
	{ id: "wider", combos: ["."], run: () => act.stepStop(1) },
	{ id: "next-image", combos: ["]", "PageDown"], words: "Next image", run: () => act.stepImage(1) },
	{ id: "previous-image", combos: ["[", "PageUp"], run: () => act.stepImage(-1) },
	{ id: "go-to-tooth", combos: ["T"], run: () => act.openMenu("goto") },
	{ id: "compare", combos: ["P"], run: () => import("./compare.mjs").then((part) => part.compareHere()) },
	{ id: "invert", combos: ["I"], run: viewing.invert },
	{ id: "window", combos: ["W"], run: viewing.reset },
	{ id: "next-window", combos: ["Shift+W"], run: viewing.nextWindow },
	...[["narrower", "Left", -20, 0], ["broader", "Right", 20, 0], ["level-up", "Up", 0, -12], ["level-down", "Down", 0, 12]].map(([id, key, x, y]) => ({
		id, combos: [`Shift+Arrow${key}`], run: () => viewing.window(x, y),
	})),
	{ id: "zoom-in", combos: ["+", "="], run: () => viewing.zoom(1.25) },
	{ id: "zoom-out", combos: ["-"], run: () => viewing.zoom(0.8) },
	{ id: "fit", combos: ["0"], run: viewing.fit },
	{ id: "zoom-to", combos: ["Z"], run: viewing.toSelection },
	{ id: "rotate", combos: ["R"], run: viewing.rotate },
	{ id: "mirror", combos: ["H"], run: viewing.mirror },
	{ id: "sharpen", combos: ["S"], run: () => act.toggle(at.isSharp, "Sharpened") },
	{ id: "loupe", combos: ["L"], run: () => (loupe ??= import("./loupe.mjs")).then((glass) => isHeld && glass.hold()), hold: true },
	{ id: "calibrate", combos: ["Y"], run: () => arm("calibrate") },
	{ id: "measure", combos: ["M"], run: () => arm("measure") },
	{ id: "undo", combos: ["Ctrl+Z"], run: undo },
	{ id: "redo", combos: ["Ctrl+Shift+Z", "Ctrl+Y"], run: redo },
	{ id: "sign", combos: ["Ctrl+Enter"], run: act.openSign },
	{ id: "lock", combos: ["Shift+L"], run: lock },
	{ id: "leave", combos: ["Escape"], run: leave },
	{ id: "mount", combos: ["Home"], run: () => (at.dialog.value = "Mount") },
	{ id: "worklist", combos: ["Shift+Home"], run: () => location.assign("/") },
	{ id: "keys", combos: ["?"], run: () => (at.dialog.value = "Keys") },
];

/** The table with the reader's own keys, and without single letters where they are switched off. */
export const keys = computed(() => {
	const own = prefers("keys") ?? {};
	const isKept = (combo) => prefers("has_single_keys") || combo.includes("Ctrl+") || combo.replace(/^Shift\+/, "").length > 1;
	return KEYS.map((key) => ({ ...key, usual: key.combos, combos: (own[key.id] ? [own[key.id]] : key.combos).filter(isKept) }));
});

let loupe = null;
let isHeld = false;

function leave() {
	if (at.menu.value) closeMenu();
	else if (at.tool.value !== "window" || at.draft.value) stop();
	else at.selectedId.value = null;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Keys that belong to a tool in hand; true when this one did. */
function toolKey(event, pressed) {
	const tool = at.tool.value;
	if (tool === "window" || !at.draft.value) return false;
	const arrow = ARROWS[event.key];
	if (arrow) {
		const step = event.shiftKey ? 10 : 1;
		drawn((draw) => draw.nudge(arrow[0] * step, arrow[1] * step));
		return true;
	}
	if (tool === "edit") {
		if (event.key === "Tab" && event.target.id === "stage") drawn((draw) => draw.nextHandle(event.shiftKey ? -1 : 1));
		else if (pressed === "Enter") drawn((draw) => draw.keep());
		else if (pressed === "Delete") drawn((draw) => draw.deleteVertex());
		else return false;
		return true;
	}
	if (!at.draft.value.cross) return false;
	if (pressed === "Enter" && tool === "add-polygon") drawn((draw) => draw.close());
	else if (pressed === "Enter" || pressed === "Space") drawn((draw) => draw.place(at.draft.value?.cross));
	else return false;
	return true;
}

function menuKey(pressed) {
	const open = choices();
	const choice = /^[1-9]$/.test(pressed) ? open[Number(pressed) - 1] : null;
	if (!choice) return false;
	choice[1]();
	return true;
}

/** Handle a key press anywhere on the page. */
export function onKeyDown(event) {
	if (lockState.value === "locked" || at.dialog.value) return;
	const pressed = combo(event);
	if (isTyping(event.target)) {
		if (pressed === "Escape") closeMenu();
		return;
	}
	// letters typed before a form has the focus are text, not commands
	if (["tooth", "comment", "goto", "calibrate"].includes(at.menu.value?.kind) && pressed !== "Escape") return typeAhead(event.key);
	if (at.tool.value !== "window" && !canDraw()) { // until it is fetched, keys wait in their order
		if (!event.ctrlKey && !event.altKey && !event.metaKey) event.preventDefault();
		return void drawn(() => onKeyDown(event));
	}
	const isControl = isForControl(event) && !(at.tool.value !== "window" && event.target.id === "stage");
	if (isControl) return;
	if (menuKey(pressed) || toolKey(event, pressed)) return void event.preventDefault();
	const entry = keys.value.find((key) => key.combos.includes(pressed));
	if (!entry || (event.repeat && entry.hold)) return void (entry && event.preventDefault());
	event.preventDefault();
	if (entry.run !== leave && at.menu.value && at.menu.value.kind === "reason") at.menu.value = null;
	if (entry.hold) isHeld = true;
	entry.run();
}

/** Release of held keys. */
export function onKeyUp(event) {
	if (!isHeld || ["Shift", "Control", "Alt"].includes(event.key)) return;
	isHeld = false;
	at.isBare.value = false;
	loupe?.then((glass) => glass.release());
}
