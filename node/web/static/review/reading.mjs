/**
 * What is said of the study as a whole: priority, completeness, teeth, bone, changes, codes. Loaded
 * after the first picture. Everything here is composed by the server; nothing is decided here.
 */

import { html } from "../vendor/preact.mjs";
import { kindOf } from "../shared/kinds.mjs";
import * as at from "./store.mjs";
import * as act from "./actions.mjs";

const MARKS = { pass: ["✓", "ok", "passed"], fail: ["✗", "warning", "failed"], not_applicable: ["–", "muted", "does not apply"] };
const URGENCY = { routine: "Routine", soon: "Soon", prompt: "Prompt" };
const CHANGED = new Set(["new", "deeper", "more_loss", "less_loss"]);

export function Reading() {
	const { id, reading } = at.study.value;
	if (!reading) return null;
	const { conclusions, facts } = reading;
	const { priority, severity, tags, referrals } = conclusions;
	return html`<section class="reading" aria-label="The study as a whole">
		<h2>Study <span class="muted">${conclusions.is_signed ? "from signed findings" : "suggested, not confirmed"}</span></h2>
		<p><strong class=${`urgency ${priority.urgency}`}>${URGENCY[priority.urgency]}</strong> ${priority.reasons.join("; ")}
			<small class="muted">${priority.words} <a href="/rollout?study=${id}">Why shown?</a></small></p>
		${tags.length > 0 && html`<ul class="tags" aria-label="Tags">${tags.map((tag) => html`<li key=${tag}>${tag.replaceAll("_", " ")}</li>`)}</ul>`}
		${facts && html`<${Changes} changes=${facts.changes} />`}
		${facts && html`<${Completeness} facts=${facts} />`}
		${facts && html`<${Teeth} facts=${facts} />`}
		${severity && html`<${Part} title="Bone" isOpen=${Boolean(severity.stage_range)}><p>${severity.words}</p>
			${severity.caveats.map((caveat) => html`<p key=${caveat} class="muted">${caveat}</p>`)}</${Part}>`}
		${referrals.length > 0 && html`<${Part} title="Whom one might ask" count=${referrals.length}><ul>${referrals.map((r) => html`<li key=${r.to + r.reason}><strong>${r.to}</strong>: ${r.reason}</li>`)}</ul></${Part}>`}
		<${Codes} conclusions=${conclusions} />
	</section>`;
}

function Part({ title, count, isOpen, children }) {
	return html`<details open=${isOpen}><summary>${title}${count ? html` <span class="muted">${count}</span>` : ""}</summary>${children}</details>`;
}

/** What differs from earlier films; sites without a measurable change are only counted. */
function Changes({ changes }) {
	if (!changes.length) return null;
	const shown = changes.filter((c) => CHANGED.has(c.verdict) || c.verdict === "not_seen_now");
	const same = changes.filter((c) => c.verdict === "no_measurable_change").length;
	const refused = changes.filter((c) => c.verdict === "not_comparable");
	return html`<${Part} title="Since earlier films" count=${shown.length} isOpen=${true}>
		<ul>${shown.map((c) => html`<${Changed} key=${c.words} change=${c} />`)}</ul>
		${same > 0 && html`<p class="muted">${same} ${same === 1 ? "site" : "sites"}: no measurable change.</p>`}
		${refused.length > 0 && html`<details><summary class="muted">${refused.length} not comparable</summary>
			<ul>${refused.map((c) => html`<${Changed} key=${c.words} change=${c} />`)}</ul></details>`}</${Part}>`;
}

function Changed({ change }) {
	const source = change.prior_source === "signed" ? "signed then" : "AI then, unsigned";
	return html`<li>${change.words} <small class="muted">against ${change.prior_date}, ${source}</small>
		${change.registration !== null && html` <button class="quiet small" onClick=${() => compare(change.registration)}>Compare</button>`}</li>`;
}

/** Open the two films of a tooth beside each other. */
export function compare(number) {
	at.comparing.value = number;
	at.dialog.value = "Compare";
}

function Completeness({ facts }) {
	const { procedures, checks, series } = facts;
	if (!procedures.length && !checks.length && !series) return null;
	const isShort = procedures.some((p) => p.state !== "complete");
	const failed = checks.filter((c) => c.outcome === "fail").length;
	const name = (id) => at.imageWords(at.images.value.find((image) => image.id === id) ?? {}, true);
	return html`<${Part} title="Completeness" count=${failed ? `${failed} open` : ""} isOpen=${isShort}>
		${procedures.map((p) => html`<p key=${p.words} class=${p.state === "complete" ? "" : "warning"}>${[...new Set(p.cdt_codes)].join(", ")}: ${p.words}</p>`)}
		${series && html`<p>${series.template}: ${series.places.length} placed${series.empty.length > 0 && html`, <span class="warning">empty: ${series.empty.join(", ")}</span>`}</p>`}
		${series?.retakes.map((r) => html`<p key=${r.instance_id} class="warning">${name(r.instance_id)} may be a retake of ${name(r.kept_id)} (${r.slot}): ${r.reason}.</p>`)}
		${checks.length > 0 && html`<ul class="checks">${checks.map((c) => html`<li key=${c.number}><span class=${MARKS[c.outcome][1]} aria-label=${MARKS[c.outcome][2]}>${MARKS[c.outcome][0]}</span>
			<span>${c.name}${c.detail && html`<small class="muted">${c.detail}</small>`}</span></li>`)}</ul>`}</${Part}>`;
}

const STATES = { missing: "Not seen", impacted: "Impacted", remnant: "Root remnant", implant: "Implant" };

function Teeth({ facts }) {
	const of = (state) => facts.teeth.filter((t) => t.state === state).map((t) => at.toothWords(t.tooth));
	const rows = Object.entries(STATES).map(([state, words]) => [words, of(state)]).filter(([, teeth]) => teeth.length);
	const { renumberings, crown_root: ratios } = facts;
	if (!rows.length && !renumberings.length && !ratios.length) return null;
	const image = (id) => at.imageWords(at.images.value.find((each) => each.id === id) ?? {}, true);
	return html`<${Part} title="Teeth" isOpen=${renumberings.length > 0}>
		${rows.map(([words, teeth]) => html`<p key=${words}>${words}: ${teeth.join(", ")}${words === "Not seen" && html` <small class="muted">${facts.missing_basis}; confirm</small>`}</p>`)}
		${renumberings.map((r) => html`<p key=${r.instance_id + r.reason} class="warning">${image(r.instance_id)}: numbers ${r.is_applied ? "changed" : "in doubt"}, ${r.reason}.
			${r.teeth.length > 0 && html`<small class="muted">${r.teeth.map(([from, to]) => `${at.toothWords(from)} → ${at.toothWords(to)}`).join(", ")}</small>`}</p>`)}
		${ratios.length > 0 && html`<p class="muted">${ratios.map((r) => `${at.toothWords(r.tooth)} ${r.words}`).join("; ")}</p>`}</${Part}>`;
}

/** Codes to consider: a list to read from, with nothing to tick and nothing that is posted. */
function Codes({ conclusions: { codes, code_notes: notes } }) {
	if (!codes.length && !notes.length) return null;
	const rows = new Map();
	for (const code of codes) {
		const key = [code.tooth ? at.toothWords(code.tooth) : code.area, code.reason].filter(Boolean).join(": ");
		rows.set(key, [...(rows.get(key) ?? []), code]);
	}
	return html`<${Part} title="Codes to consider" count=${rows.size}>
		<p class="muted">Suggestions, none selected; nothing is posted. CDT is the ADA's.</p>
		<ul>${[...rows].map(([key, list]) => html`<li key=${key}>${key}<small>${list.map((c) => `${c.cdt_code} ${c.label}`).join(" · ")}</small>
			${list[0].evidence.length > 0 && html`<small class="muted">Evidence: ${list[0].evidence.join("; ")}</small>`}</li>`)}</ul>
		${notes.map((note) => html`<p key=${note} class="muted">${note}</p>`)}</${Part}>`;
}

/** The same thing on other images: a link, and never a decision. */
export function Linked({ finding }) {
	const group = at.study.value.reading?.conclusions.groups.find((g) => g.finding_ids.includes(finding.id));
	const others = (group?.finding_ids ?? []).map((id) => at.findings.value.get(id)).filter((f) => f && f.id !== finding.id && f.image_id !== finding.image_id);
	if (!others.length) return null;
	return html`<div class="row small linked"><span class="muted">Also on</span>
		${others.map((f) => html`<button key=${f.id} class="quiet" onClick=${() => [act.showImage(f.image_id), act.choose(f)]}
			title=${`${kindOf(f.kind).words}: ${act.stateWords(f)}`}>${at.imageWords(at.images.value.find((i) => i.id === f.image_id), true)}${at.isOpen(f) ? ", to decide" : ""}</button>`)}</div>`;
}
