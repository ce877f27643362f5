/** The key map of the review page: one table, shown by `?`, tested for duplicates. */

import { lock, lockState } from "../shared/session.mjs";
import { combo, isForControl, isTyping } from "../shared/keys.mjs";
import * as at from "./store.mjs";
import * as act from "./actions.mjs";
import * as draw from "./draw.mjs";
import { redo, undo } from "./changes.mjs";
import { choices, closeMenu } from "./menus.mjs";

const { viewing } = act;
const classKeys = ["C", "B", "P", "K", "R", "O"];

export const KEYS = [
	{ combos: ["A"], words: "Accept, next", run: act.accept },
	{ combos: ["X"], words: "Reject, next; then 1–7 for the reason", run: act.reject },
	{ combos: ["J", "ArrowDown"], words: "Next finding", run: () => act.stepFinding(1) },
	{ combos: ["K", "ArrowUp"], words: "Previous finding", run: () => act.stepFinding(-1) },
	{ combos: ["Shift+J"], words: "Next undecided in the study", run: act.nextOpen },
	{ combos: ["N"], words: "Add missed: box, N polygon, N line", run: draw.armAdd },
	{ combos: ["E"], words: "Edit the shape", run: draw.edit },
	{ combos: ["C"], words: "Class, then 1–6", run: () => act.openMenu("class") },
	{ combos: ["D"], words: "Tooth and surface", run: () => act.openMenu("tooth") },
	{ combos: ["V"], words: "Depth, then 1–6", run: () => act.openMenu("depth") },
	{ combos: ["G"], words: "Plan: watch, preventive, restore, refer, none", run: () => act.openMenu("plan") },
	{ combos: ["/"], words: "Comment", run: () => act.openMenu("comment") },
	{ combos: ["Delete", "Backspace"], words: "Remove your own mark", run: act.remove },
	{ combos: ["Space"], words: "Hold: bare image", run: () => (at.isBare.value = true), hold: true },
	{ combos: ["O"], words: "Marks on or off", run: () => act.toggle(at.isOverlayOn, "Marks") },
	{ combos: ["U"], words: "Tooth numbers on or off", run: () => act.toggle(at.showsTeeth, "Tooth numbers") },
	...classKeys.map((letter, index) => ({
		combos: [`Shift+${index + 1}`], words: `Show or hide class ${letter}`, run: () => act.toggleLetter(letter),
	})),
	{ combos: [","], words: "Fewer suggestions", run: () => act.stepStop(-1) },
	{ combos: ["."], words: "More suggestions", run: () => act.stepStop(1) },
	{ combos: ["]", "PageDown"], words: "Next image", run: () => act.stepImage(1) },
	{ combos: ["[", "PageUp"], words: "Previous image", run: () => act.stepImage(-1) },
	{ combos: ["T"], words: "Go to tooth", run: () => act.openMenu("goto") },
	{ combos: ["P"], words: "Compare with the earlier film", run: () => at.late.value.compareHere?.() },
	{ combos: ["I"], words: "Invert", run: viewing.invert },
	{ combos: ["W"], words: "Reset the window", run: viewing.reset },
	{ combos: ["Shift+W"], words: "Next window preset", run: viewing.nextWindow },
	{ combos: ["Shift+ArrowLeft"], words: "Window narrower", run: () => viewing.window(-20, 0) },
	{ combos: ["Shift+ArrowRight"], words: "Window wider", run: () => viewing.window(20, 0) },
	{ combos: ["Shift+ArrowUp"], words: "Level up", run: () => viewing.window(0, -12) },
	{ combos: ["Shift+ArrowDown"], words: "Level down", run: () => viewing.window(0, 12) },
	{ combos: ["+", "="], words: "Zoom in", run: () => viewing.zoom(1.25) },
	{ combos: ["-"], words: "Zoom out", run: () => viewing.zoom(0.8) },
	{ combos: ["0"], words: "Fit", run: viewing.fit },
	{ combos: ["Z"], words: "Zoom to the selection", run: viewing.toSelection },
	{ combos: ["R"], words: "Rotate by 90°", run: viewing.rotate },
	{ combos: ["H"], words: "Mirror", run: viewing.mirror },
	{ combos: ["M"], words: "Measure", run: () => draw.arm("measure") },
	{ combos: ["Ctrl+Z"], words: "Undo", run: undo },
	{ combos: ["Ctrl+Shift+Z", "Ctrl+Y"], words: "Redo", run: redo },
	{ combos: ["Ctrl+Enter"], words: "Sign, or amend", run: act.openSign },
	{ combos: ["Shift+L"], words: "Lock this screen", run: lock },
	{ combos: ["Escape"], words: "Leave the tool, then the selection", run: leave },
	{ combos: ["Home"], words: "Back to the worklist", run: () => location.assign("/") },
	{ combos: ["?"], words: "Show the keys", run: () => (at.dialog.value = "Keys") },
];

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
	if (["tooth", "comment", "goto"].includes(at.menu.value?.kind) && pressed !== "Escape") return;
	const isControl = isForControl(event) && !(at.tool.value !== "window" && event.target.id === "stage");
	if (isControl) return;
	if (menuKey(pressed) || toolKey(event, pressed)) return void event.preventDefault();
	const entry = KEYS.find((key) => key.combos.includes(pressed));
	if (!entry || (event.repeat && entry.hold)) return void (entry && event.preventDefault());
	event.preventDefault();
	if (entry.run !== leave && at.menu.value && at.menu.value.kind === "reason") at.menu.value = null;
	entry.run();
}

/** Release of held keys. */
export function onKeyUp(event) {
	if (event.key === " ") at.isBare.value = false;
}
