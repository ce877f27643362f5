/** Small menus beside the shape they speak of: class, tooth and surface, depth, reason, plan, comment. */

import { html, signal, useEffect } from "../vendor/preact.mjs";
import { bounds } from "../engine/view.mjs";
import { DEPTHS, DISPOSITIONS, MENU, REASONS, kindOf } from "../shared/kinds.mjs";
import * as at from "./store.mjs";
import { change } from "./changes.mjs";
import { drawn, stop, toStage } from "./tools.mjs";
import { stageSize } from "./looks.mjs";

const WIDTH = 268;

/** Choices of the open menu that number keys take, as [words, action, isCurrent]. */
export function choices() {
	const menu = at.menu.value;
	const finding = menu?.id ? at.findings.value.get(menu.id) : null;
	switch (menu?.kind) {
		case "add": return fitting(menu.geometry).map((kind) => [kind.words, () => drawn((draw) => draw.addAs(kind.value)), false, kind]);
		case "class": return fitting(finding.geometry).map((kind) => [kind.words, () => pick("set_class", finding, { kind: kind.value }, kind.words), finding.kind === kind.value, kind]);
		case "depth": return DEPTHS.map(([depth, words]) => [`${depth}  ${words}`, () => pick("set_depth", finding, { depth }, depth), finding.depth === depth]);
		case "reason": return REASONS.map(([reason, words]) => [words, () => giveReason(finding, reason, words), finding.reason === reason]);
		case "plan": return DISPOSITIONS.map(([disposition, words]) => [words, () => pick("set_disposition", finding, { disposition }, `Plan: ${words}`), finding.disposition === disposition]);
		default: return [];
	}
}

/** Kinds that fit a shape, in the order of the number keys. */
function fitting({ type }) {
	return MENU.filter((kind) => (kind.shape === "line") === (type === "line"));
}

function pick(kind, finding, data, words) {
	at.menu.value = null;
	change(kind, finding, data, `${at.findingWords(finding)}: ${words}.`);
}

/** A reason for the rejection just made; undone together with it. */
function giveReason(finding, reason, words) {
	at.menu.value = null;
	change("reject", finding, { reason }, `Reason: ${words}.`, true);
}

/** Close the menu; drawing under way is put away with it. */
export function closeMenu() {
	if (["add", "calibrate"].includes(at.menu.value?.kind)) stop();
	at.menu.value = null;
	document.getElementById("stage")?.focus({ preventScroll: true });
}

const TITLES = {
	add: "What is it?", class: "Class", tooth: "Tooth and surface", depth: "Depth",
	reason: "Rejected. Why?", plan: "Plan", comment: "Comment", goto: "Go to tooth", calibrate: "Known length",
};

/** The forms with text fields, fetched with the first of them. */
const forms = signal(null);
let fetching = null;
let typed = "";

/** Keep what is typed while a form is on its way. */
export function typeAhead(key) {
	if (!forms.value && key.length === 1) typed += key;
}

/** What was typed ahead, for the field that stands now. */
export function typedAhead() {
	const text = typed;
	typed = "";
	return text;
}

function loadForms() {
	fetching ??= import("./forms.mjs").then((module) => (forms.value = module), () => [(fetching = null), closeMenu()]);
	return null;
}

export function Menu() {
	const menu = at.menu.value;
	if (!menu) return null;
	const title = TITLES[menu.kind];
	const part = { tooth: "ToothForm", comment: "CommentForm", goto: "GotoForm", calibrate: "CalibrateForm" }[menu.kind];
	if (part && !forms.value) return loadForms();
	const body = part ? forms.value[part] : Choices;
	return html`<div class=${`popover ${menu.kind}`} role="dialog" aria-label=${title} style=${placeOf(menu)}>
		<div class="row head"><strong>${title}</strong><span class="grow"></span>
			<button class="quiet" aria-label="Close" onClick=${closeMenu}><kbd>Esc</kbd></button></div>
		<${body} key=${`${menu.kind} ${menu.id ?? ""}`} menu=${menu} />
	</div>`;
}

/** Beside the shape, inside the stage; the reason strip stands at the bottom. */
function placeOf(menu) {
	const size = stageSize.value;
	if (menu.kind === "reason") return { left: `${Math.max((size.width - 820) / 2, size.width * 0.03)}px`, bottom: "14px" };
	if (menu.kind === "goto") return { left: `${(size.width - WIDTH) / 2}px`, bottom: "14px" };
	const geometry = menu.geometry ?? at.findings.value.get(menu.id)?.geometry;
	const [x0, y0, x1] = bounds(geometry.points.map(toStage));
	const left = x1 + 16 + WIDTH < size.width ? x1 + 16 : Math.max(x0 - 16 - WIDTH, 8);
	return { left: `${left}px`, top: `${Math.min(Math.max(y0, 8), Math.max(size.height - 320, 8))}px` };
}

function Choices({ menu }) {
	useEffect(() => {
		if (menu.kind !== "reason") return undefined;
		const timer = setTimeout(() => at.menu.value === menu && (at.menu.value = null), 4000);
		return () => clearTimeout(timer);
	}, [menu]);
	return html`<div class="choices">${choices().map(([words, act, isCurrent, kind], index) => html`<button key=${index} class="quiet"
		aria-pressed=${String(isCurrent)} onClick=${act}><kbd>${index + 1}</kbd>
		${kind && html`<i class=${`letter ${kind.value}`}>${kind.letter}</i>`}<span>${words}</span></button>`)}</div>`;
}

/** The class of a finding as a chip. */
export function Letter({ kind }) {
	return html`<i class=${`letter ${kind}`} aria-hidden="true">${kindOf(kind).letter}</i>`;
}
