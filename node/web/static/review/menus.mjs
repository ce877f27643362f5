/** Small menus beside the shape they speak of: class, tooth and surface, depth, reason, plan, comment. */

import { html, useEffect, useRef, useState } from "../vendor/preact.mjs";
import { bounds } from "../engine/view.mjs";
import { DEPTHS, DISPOSITIONS, MENU, REASONS, kindOf } from "../shared/kinds.mjs";
import { SURFACES, fromUniversal, universal } from "../shared/teeth.mjs";
import { say } from "../shared/say.mjs";
import * as at from "./store.mjs";
import { change } from "./changes.mjs";
import { addAs, addChoices, stop, toStage } from "./draw.mjs";
import { stageSize } from "./looks.mjs";

const WIDTH = 268;

/** Choices of the open menu that number keys take, as [words, action, isCurrent]. */
export function choices() {
  const menu = at.menu.value;
  const finding = menu?.id ? at.findings.value.get(menu.id) : null;
  switch (menu?.kind) {
    case "add": return addChoices().map((kind) => [kind.words, () => addAs(kind.value), false, kind]);
    case "class": return MENU.filter((kind) => (kind.shape === "line") === (finding.geometry.type === "line")).map((kind) => [kind.words, () => pick("set_class", finding, { kind: kind.value }, kind.words), finding.kind === kind.value, kind]);
    case "depth": return DEPTHS.map(([depth, words]) => [`${depth}  ${words}`, () => pick("set_depth", finding, { depth }, depth), finding.depth === depth]);
    case "reason": return REASONS.map(([reason, words]) => [words, () => giveReason(finding, reason, words), finding.reason === reason]);
    case "plan": return DISPOSITIONS.map(([disposition, words]) => [words, () => pick("set_disposition", finding, { disposition }, `Plan: ${words}`), finding.disposition === disposition]);
    default: return [];
  }
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
  if (at.menu.value?.kind === "add") stop();
  at.menu.value = null;
  document.getElementById("stage")?.focus({ preventScroll: true });
}

const TITLES = {
  add: "What is it?", class: "Class", tooth: "Tooth and surface", depth: "Depth",
  reason: "Rejected. Why?", plan: "Plan", comment: "Comment", goto: "Go to tooth",
};

export function Menu() {
  const menu = at.menu.value;
  if (!menu) return null;
  const title = TITLES[menu.kind];
  const body = { tooth: ToothForm, comment: CommentForm, goto: GotoForm }[menu.kind] ?? Choices;
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

/** Read a tooth as the practice writes it. */
function readTooth(text) {
  if (!text.trim()) return null;
  const isFdi = at.study.value.settings.numbering === "fdi";
  if (!isFdi) return fromUniversal(text) ?? undefined;
  return universal(text.trim()) && fromUniversal(universal(text.trim())) ? text.trim() : undefined;
}

function ToothForm({ menu }) {
  const finding = at.findings.value.get(menu.id);
  const isFdi = at.study.value.settings.numbering === "fdi";
  const field = useRef(null);
  const [text, setText] = useState(isFdi ? finding.tooth ?? "" : universal(finding.tooth));
  const [surfaces, setSurfaces] = useState(finding.surfaces);
  const tooth = readTooth(text);
  useEffect(() => field.current.select(), []);
  const toggle = (letter) => setSurfaces(SURFACES.map(([l]) => l).filter((l) => (l === letter) !== surfaces.includes(l)).join(""));
  const keep = (event) => {
    event.preventDefault();
    if (tooth === undefined) return;
    const now = at.findings.value.get(menu.id);
    if (tooth !== now.tooth || surfaces !== now.surfaces) {
      change("set_tooth", now, { tooth, surfaces }, `Tooth ${at.toothWords(tooth)} ${surfaces}.`);
    }
    closeMenu();
    if (menu.isNew && now.kind === "caries") at.menu.value = { kind: "depth", id: now.id };
  };
  return html`<form onSubmit=${keep} class="toothform">
    <label class="field">Tooth (${isFdi ? "FDI" : "Universal"})
      <input ref=${field} value=${text} maxlength="3" size="4" autocomplete="off" aria-invalid=${String(tooth === undefined)}
        onInput=${(event) => setText(event.target.value)} /></label>
    ${tooth === undefined && html`<p class="danger" role="alert">There is no tooth ${text}.</p>`}
    <div class="surfaces" role="group" aria-label="Surfaces">${SURFACES.map(([letter, words]) => html`<button type="button" key=${letter}
      title=${words} aria-label=${words} aria-pressed=${String(surfaces.includes(letter))} onClick=${() => toggle(letter)}>${letter}</button>`)}</div>
    <button class="primary">Keep <kbd>Enter</kbd></button></form>`;
}

function CommentForm({ menu }) {
  const finding = at.findings.value.get(menu.id);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const keep = (event) => {
    event.preventDefault();
    const text = field.current.value.trim();
    if (text !== finding.comment) change("comment", at.findings.value.get(menu.id), { text }, "Comment kept.");
    closeMenu();
  };
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey) keep(event);
  };
  return html`<form onSubmit=${keep} class="toothform"><label class="sr-only" for="comment">Comment</label>
    <textarea id="comment" ref=${field} rows="3" maxlength="500" onKeyDown=${onKey}>${finding.comment}</textarea>
    <button class="primary">Keep <kbd>Enter</kbd></button></form>`;
}

function GotoForm() {
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const go = (event) => {
    event.preventDefault();
    const tooth = readTooth(field.current.value);
    const finding = tooth && at.ordered.value.find((f) => f.tooth === tooth);
    const image = finding ? at.images.value.find((i) => i.id === finding.image_id)
      : tooth && at.images.value.find((i) => i.teeth.some((t) => t.tooth === tooth));
    closeMenu();
    if (image) at.currentId.value = image.id;
    if (finding) at.selectedId.value = finding.id;
    say(finding ? at.findingWords(finding) : image ? `Tooth ${at.toothWords(tooth)}, no findings.` : "No such tooth on these images.");
  };
  return html`<form onSubmit=${go} class="row"><label class="sr-only" for="goto">Tooth</label>
    <input id="goto" ref=${field} size="5" maxlength="3" autocomplete="off" /><button class="primary">Go <kbd>Enter</kbd></button></form>`;
}

/** The class of a finding as a chip. */
export function Letter({ kind }) {
  return html`<i class=${`letter ${kind}`} aria-hidden="true">${kindOf(kind).letter}</i>`;
}
