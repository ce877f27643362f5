/** The key map of the review page: one table, shown by `?`, tested for duplicates. */

import { computed } from "../vendor/preact.mjs";
import { lock, lockState, prefers } from "../shared/session.mjs";
import { combo, isForControl, isTyping } from "../shared/keys.mjs";
import * as at from "./store.mjs";
import * as act from "./actions.mjs";
import * as draw from "./draw.mjs";
import { redo, undo } from "./changes.mjs";
import { choices, closeMenu } from "./menus.mjs";

const { viewing } = act;
const classKeys = ["C", "B", "P", "K", "R", "O"];

export const KEYS = [
	{ id: "accept", combos: ["A"], words: "Accept, next", run: act.accept },
	{ id: "reject", combos: ["X"], words: "Reject, next; then 1–7 for the reason", run: act.reject },
	{ id: "next-finding", combos: ["J", "ArrowDown"], words: "Next finding", run: () => act.stepFinding(1) },
	{ id: "previous-finding", combos: ["K", "ArrowUp"], words: "Previous finding", run: () => act.stepFinding(-1) },
	{ id: "next-undecided", combos: ["Shift+J"], words: "Next undecided in the study", run: act.nextOpen },
	{ id: "add", combos: ["N"], words: "Add missed: box, N polygon, N line", run: draw.armAdd },
	{ id: "edit", combos: ["E"], words: "Edit the shape", run: draw.edit },
	{ id: "class", combos: ["C"], words: "Class, then 1–6", run: () => act.openMenu("class") },
	{ id: "tooth", combos: ["D"], words: "Tooth and surface", run: () => act.openMenu("tooth") },
	{ id: "depth", combos: ["V"], words: "Depth, then 1–6", run: () => act.openMenu("depth") },
	{ id: "plan", combos: ["G"], words: "Plan: watch, preventive, restore, refer, none", run: () => act.openMenu("plan") },
	{ id: "comment", combos: ["/"], words: "Comment", run: () => act.openMenu("comment") },
	{ id: "remove", combos: ["Delete", "Backspace"], words: "Remove your own mark", run: act.remove },
	{ id: "bare", combos: ["Space"], words: "Hold: bare image", run: () => (at.isBare.value = true), hold: true },
	{ id: "marks", combos: ["O"], words: "Marks on or off", run: () => act.toggle(at.isOverlayOn, "Marks") },
	{ id: "teeth", combos: ["U"], words: "Tooth numbers on or off", run: () => act.toggle(at.showsTeeth, "Tooth numbers") },
	...classKeys.map((letter, index) => ({
		id: `class-${letter}`, combos: [`Shift+${index + 1}`], words: `Show or hide class ${letter}`, run: () => act.toggleLetter(letter),
	})),
	{ id: "stricter", combos: [","], words: "Fewer suggestions", run: () => act.stepStop(-1) },
	{ id: "wider", combos: ["."], words: "More suggestions", run: () => act.stepStop(1) },
	{ id: "next-image", combos: ["]", "PageDown"], words: "Next image", run: () => act.stepImage(1) },
	{ id: "previous-image", combos: ["[", "PageUp"], words: "Previous image", run: () => act.stepImage(-1) },
	{ id: "go-to-tooth", combos: ["T"], words: "Go to tooth", run: () => act.openMenu("goto") },
	{ id: "compare", combos: ["P"], words: "Compare with the earlier film", run: () => import("./reading.mjs").then((part) => part.compareHere()) },
	{ id: "invert", combos: ["I"], words: "Invert", run: viewing.invert },
	{ id: "window", combos: ["W"], words: "Reset the window", run: viewing.reset },
	{ id: "next-window", combos: ["Shift+W"], words: "Next window preset", run: viewing.nextWindow },
	{ id: "narrower", combos: ["Shift+ArrowLeft"], words: "Window narrower", run: () => viewing.window(-20, 0) },
	{ id: "broader", combos: ["Shift+ArrowRight"], words: "Window wider", run: () => viewing.window(20, 0) },
	{ id: "level-up", combos: ["Shift+ArrowUp"], words: "Level up", run: () => viewing.window(0, -12) },
	{ id: "level-down", combos: ["Shift+ArrowDown"], words: "Level down", run: () => viewing.window(0, 12) },
	{ id: "zoom-in", combos: ["+", "="], words: "Zoom in", run: () => viewing.zoom(1.25) },
	{ id: "zoom-out", combos: ["-"], words: "Zoom out", run: () => viewing.zoom(0.8) },
	{ id: "fit", combos: ["0"], words: "Fit", run: viewing.fit },
	{ id: "zoom-to", combos: ["Z"], words: "Zoom to the selection", run: viewing.toSelection },
	{ id: "rotate", combos: ["R"], words: "Rotate by 90°", run: viewing.rotate },
	{ id: "mirror", combos: ["H"], words: "Mirror", run: viewing.mirror },
	{ id: "sharpen", combos: ["S"], words: "Sharpen, for looking only", run: () => act.toggle(at.isSharp, "Sharpened") },
	{ id: "loupe", combos: ["L"], words: "Hold: loupe, 2.5 times", run: () => (loupe ??= import("./loupe.mjs")).then((glass) => isHeld && glass.hold()), hold: true },
	{ id: "calibrate", combos: ["Y"], words: "Calibrate by a known length", run: () => draw.arm("calibrate") },
	{ id: "measure", combos: ["M"], words: "Measure", run: () => draw.arm("measure") },
	{ id: "undo", combos: ["Ctrl+Z"], words: "Undo", run: undo },
	{ id: "redo", combos: ["Ctrl+Shift+Z", "Ctrl+Y"], words: "Redo", run: redo },
	{ id: "sign", combos: ["Ctrl+Enter"], words: "Sign, or amend", run: act.openSign },
	{ id: "lock", combos: ["Shift+L"], words: "Lock this screen", run: lock },
	{ id: "leave", combos: ["Escape"], words: "Leave the tool, then the selection", run: leave },
	{ id: "mount", combos: ["Home"], words: "Mount: all images at their places", run: () => (at.dialog.value = "Mount") },
	{ id: "worklist", combos: ["Shift+Home"], words: "Back to the worklist", run: () => location.assign("/") },
	{ id: "keys", combos: ["?"], words: "Show the keys", run: () => (at.dialog.value = "Keys") },
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
	else if (at.tool.value !== "window" || at.draft.value) draw.stop();
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
		draw.nudge(arrow[0] * step, arrow[1] * step);
		return true;
	}
	if (tool === "edit") {
		if (event.key === "Tab" && event.target.id === "stage") draw.nextHandle(event.shiftKey ? -1 : 1);
		else if (pressed === "Enter") draw.keep();
		else if (pressed === "Delete") draw.deleteVertex();
		else return false;
		return true;
	}
	if (!at.draft.value.cross) return false;
	if (pressed === "Enter" && tool === "add-polygon") draw.close();
	else if (pressed === "Enter" || pressed === "Space") draw.place(at.draft.value.cross);
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
	if (["tooth", "comment", "goto", "calibrate"].includes(at.menu.value?.kind) && pressed !== "Escape") return;
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
