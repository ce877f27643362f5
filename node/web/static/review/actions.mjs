/** What keys and buttons do on the selected finding and between findings and images. */

import { batch } from "../vendor/preact.mjs";
import { alarm, say } from "../shared/say.mjs";
import { flip, rotate, zoomAt, zoomTo } from "../engine/view.mjs";
import { hasDepth } from "../shared/kinds.mjs";
import * as at from "./store.mjs";
import { prefers } from "../shared/session.mjs";
import { change, leftWords } from "./changes.mjs";
import { look, setLook, stageSize, fitAgain, nextWindow, startDisplay, dragWindow } from "./looks.mjs";

/** Show an image and choose its first open suggestion. */
export function showImage(id) {
	batch(() => {
		at.currentId.value = id;
		at.menu.value = null;
		at.draft.value = null;
		at.tool.value = "window";
		if (prefers("reads_first")) at.isOverlayOn.value = at.seen.value.has(id);
		const first = at.onImage.value.find((f) => at.isOpen(f) && at.isShown(f));
		at.selectedId.value = first?.id ?? null;
	});
	if (at.current.value) say(`${at.imageWords(at.current.value)}. ${at.openOn(id)} to decide.`);
}

/** Step through the images. */
export function stepImage(step) {
	const all = at.images.value;
	const now = all.indexOf(at.current.value);
	const next = all[Math.min(Math.max(now + step, 0), all.length - 1)];
	if (next && next.id !== at.currentId.value) showImage(next.id);
	else say(step > 0 ? "Last image." : "First image.");
}

/** Choose a finding, showing its image. */
export function choose(finding) {
	batch(() => {
		if (finding.image_id !== at.currentId.value) at.currentId.value = finding.image_id;
		at.selectedId.value = finding.id;
		at.menu.value = null;
		if (at.tool.value === "edit") [at.tool.value, at.draft.value] = ["window", null];
	});
}

/** Step through the marks of the image. */
export function stepFinding(step) {
	const all = at.onImage.value.filter(at.isListed);
	if (!all.length) return say("No findings on this image.");
	const now = all.findIndex((f) => f.id === at.selectedId.value);
	const next = all[now < 0 ? (step > 0 ? 0 : all.length - 1) : (now + step + all.length) % all.length];
	choose(next);
	return say(`${at.findingWords(next)}, ${stateWords(next)}.`);
}

/** The next open suggestion of the whole study, on whichever image. */
export function nextOpen() {
	const all = at.ordered.value;
	const from = all.findIndex((f) => f.id === at.selectedId.value);
	const next = [...all.slice(from + 1), ...all.slice(0, from + 1)].find((f) => at.isOpen(f) && at.isShown(f));
	if (next) choose(next);
	else say(at.openCount.value ? `${leftWords()} They are below the line.` : "All decided.");
}

/** After a decision: the next open suggestion on this image, else stay. */
function moveOn() {
	const all = at.onImage.value;
	const from = all.findIndex((f) => f.id === at.selectedId.value);
	const next = [...all.slice(from + 1), ...all.slice(0, from + 1)].find((f) => at.isOpen(f) && at.isShown(f));
	if (next) at.selectedId.value = next.id;
}

/** A: the suggestion is right. */
export function accept() {
	const finding = need();
	if (!finding) return;
	if (finding.origin === "human") return say("Your own mark is accepted already.");
	if (["accepted", "edited"].includes(finding.state) && !finding.proposal) return say("Accepted already.");
	batch(() => {
		if (change("accept", finding, {}, `${at.findingWords(finding)}, accepted.`)) moveOn();
	});
}

/** X: the suggestion is wrong; the reason strip stays for four seconds. */
export function reject() {
	const finding = need();
	if (!finding) return;
	if (finding.origin === "human") return say("Remove your own mark with Delete.");
	batch(() => {
		if (!change("reject", finding, { reason: "" }, `${at.findingWords(finding)}, rejected.`)) return;
		moveOn();
		at.menu.value = { kind: "reason", id: finding.id };
	});
}

/** Delete: only a mark of the reader's side can be removed. */
export function remove() {
	const finding = need();
	if (!finding) return;
	if (finding.origin !== "human") return say("A suggestion cannot be removed. Reject it with X.");
	batch(() => {
		if (change("remove_own", finding, {}, `${at.findingWords(finding)}, removed.`)) at.selectedId.value = null;
	});
}

/** Open one of the menus for the selected finding. */
export function openMenu(kind) {
	if (kind === "goto") {
		at.menu.value = { kind };
		return;
	}
	const finding = need();
	if (!finding) return;
	if (!at.canDecide.value) return void say("This study cannot be changed now.");
	if (kind === "depth" && !hasDepth(finding.kind)) return void say("Only caries has a depth.");
	if (kind === "plan" && !takesPlan(finding)) return void say("Accept the finding first, then choose a plan.");
	at.menu.value = { kind, id: finding.id };
}

/** Whether a finding takes a disposition: accepted and a disease. */
export function takesPlan(finding) {
	return finding.is_disease && ["accepted", "edited"].includes(finding.state);
}

function need() {
	const finding = at.selected.value;
	if (!finding || finding.is_removed) {
		say("Choose a finding first: J or K.");
		return null;
	}
	return finding;
}

/** The state of a finding in words. */
export function stateWords(finding) {
	if (finding.origin === "human") return `added by ${finding.decided_by_me ? "you" : finding.decided_by}`;
	if (finding.proposal && finding.state === "suggested") {
		return `proposed ${finding.proposal.kind} by ${finding.proposal.by}`;
	}
	const by = finding.decided_by_me ? "you" : finding.decided_by;
	return finding.state === "suggested" ? "AI, not reviewed" : `${finding.state} by ${by}`;
}

/** One stop stricter or wider. */
export function stepStop(step) {
	const next = Math.min(Math.max(at.STOPS.indexOf(at.stop.value) + step, 0), at.STOPS.length - 1);
	at.stop.value = at.STOPS[next];
	say(`Sensitivity ${at.stop.value}. ${at.belowCount.value} below the line.`);
}

/** Show or hide a class of marks. */
export function toggleLetter(letter) {
	const next = new Set(at.hiddenLetters.value);
	if (!next.delete(letter)) next.add(letter);
	at.hiddenLetters.value = next;
	say(`Class ${letter} ${next.has(letter) ? "hidden" : "shown"}.`);
}

/** Flip a switch and say it. */
export function toggle(signal, words) {
	signal.value = !signal.value;
	say(`${words} ${signal.value ? "on" : "off"}.`);
}

/** View keys; each does nothing without a picture. */
export const viewing = {
	zoom: (factor) => ready() && setLook({ view: zoomAt(look.value.view, stageSize.value, [stageSize.value.width / 2, stageSize.value.height / 2], factor) }),
	fit: () => ready() && fitAgain(),
	rotate: () => ready() && turn(rotate(look.value.view)),
	mirror: () => ready() && turn(flip(look.value.view)),
	invert: () => ready() && setLook({ isInverted: !look.value.isInverted }),
	reset: () => ready() && at.current.value.grey && setLook({ display: startDisplay(at.current.value) }),
	nextWindow: () => ready() && look.value.display && nextWindow(),
	window: (dx, dy) => ready() && look.value.display && dragWindow(look.value.display, dx, dy),
	toSelection: () => ready() && at.selected.value
		&& setLook({ view: zoomTo(look.value.view, stageSize.value, at.selected.value.geometry.points) }),
};

function ready() {
	return Boolean(look.value);
}

/** Turning or mirroring fits the image again. */
function turn(view) {
	setLook({ view: null, turns: view.turns, mirror: view.mirror });
}

/** Signing opens only when nothing is on its way; the dialog says what is left. */
export function openSign() {
	if (at.study.value.state === "signed") at.dialog.value = "Amend";
	else if (!at.study.value.is_editable) alarm("This study cannot be signed now.");
	else at.dialog.value = "Sign";
}
