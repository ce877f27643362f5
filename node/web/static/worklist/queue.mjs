/** The table of studies. */

import { html } from "../vendor/preact.mjs";
import { KINDS } from "../shared/kinds.mjs";
import { ageWords, dayWords, nameWords, timeWords } from "../shared/chrome.mjs";

const LETTER_CLASS = Object.fromEntries([...KINDS].reverse().map((kind) => [kind.letter, kind]));

/** State of a row: the words, the dot's class. */
export function stateWords(row) {
	const n = `${row.progress.done} of ${row.progress.total}`;
	switch (row.state) {
		case "receiving": return ["receiving images", "busy"];
		case "analysing": return [`analysing ${n}`, "busy"];
		case "ready": return ["ready", "ready"];
		case "in_review": return [row.reviewer ? `${row.reviewer} is reviewing` : "in review", "busy"];
		case "signed": return ["signed", "signed"];
		case "amending": return ["being amended", "busy"];
		case "ai_failed": return ["AI failed: read without it, or retry", "bad"];
		case "ai_off": return ["ready, AI off", "warn"];
		default: return [row.state, ""];
	}
}

/** Minutes and hours since the last image. */
export function waitWords(seconds) {
	if (seconds < 60) return "now";
	if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
	if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
	return `${Math.floor(seconds / 86400)} days`;
}

const EMPTY = {
	to_review: ["Nothing waits for review", "Studies appear here by themselves as soon as they arrive."],
	today: ["No images of today's patients", "Who has an appointment today stands here once images arrive."],
	signed_today: ["Nothing signed today yet", "Signed studies stay readable under All."],
	all: ["No studies yet", "Send images to this node by DICOM and they appear here."],
};

export function Queue({ rows, chosen, open, filter, text, timeZone }) {
	if (!rows) return html`<div aria-busy="true">${[1, 2, 3].map((n) => html`<div class="skeleton" key=${n}></div>`)}</div>`;
	if (!rows.length) {
		const [title, hint] = text ? ["No study matches", "Esc clears the search."] : EMPTY[filter];
		return html`<div class="empty"><h2>${title}</h2><p>${hint}</p></div>`;
	}
	return html`<table class="queue">
		<thead><tr><th scope="col">Patient</th><th scope="col">Study</th><th scope="col">State</th>
			<th scope="col">Suggestions</th><th scope="col" class="hide-narrow">Chair</th>
			<th scope="col">Waiting</th></tr></thead>
		<tbody>${rows.map((row, index) => html`<${Row} key=${row.id} row=${row} index=${index}
			chosen=${chosen} open=${open} timeZone=${timeZone} />`)}</tbody>
	</table>`;
}

function Row({ row, index, chosen, open, timeZone }) {
	const [words, dot] = stateWords(row);
	const isAnalysing = row.state === "analysing" && row.progress.total > 0;
	return html`<tr class=${chosen.value === index ? "chosen" : ""} onClick=${() => open(row)}>
		<td class="who"><a id=${`row-${row.id}`} href=${`/review/${row.id}`}
				onFocus=${() => (chosen.value = index)} aria-current=${chosen.value === index ? "true" : undefined}
				>${nameWords(row.patient)}</a>
			<small>${[ageWords(row.patient), row.patient?.sex].filter(Boolean).join("  ")}
				${row.patient?.source === "sender" && " as sent, not yet linked"}</small></td>
		<td>${row.label}<small>${[dayWords(row.study_date), `${row.images} ${row.images === 1 ? "image" : "images"}`].filter(Boolean).join(" · ")}</small></td>
		<td><div class="statecell"><span class=${`dot ${dot}`}></span><div><span>${words}</span>
			${isAnalysing && html` <progress max=${row.progress.total} value=${row.progress.done} aria-label="analysis"></progress>`}
			${row.urgency && html`<small><b class=${`urgency ${row.urgency.level}`}>${row.urgency.level}</b> ${row.urgency.reasons.join("; ")} (models, not confirmed)</small>`}
			${row.problems.map((problem) => html`<small class="warning">${problem.words}</small>`)}</div></div></td>
		<td><${Suggestions} row=${row} /></td>
		<td class="hide-narrow muted">${row.is_in_chair && html`<span class="pill good">in the chair</span> `}${timeWords(row.scheduled_at, timeZone)}
			${row.operatory && html`<small>${row.operatory}</small>`}</td>
		<td class="nowrap">${row.state === "signed" ? html`<span class="muted">–</span>` : waitWords(row.waiting_s)}</td>
	</tr>`;
}

function Suggestions({ row }) {
	if (!row.suggestions || ["receiving", "analysing"].includes(row.state)) return html`<span class="muted">–</span>`;
	const entries = [..."CPBKRO"].map((letter) => [letter, row.suggestions[letter]]).filter(([, n]) => n > 0);
	if (!entries.length) return html`<span class="muted">${row.undecided ? "weak ones only" : "none open"}</span>`;
	return html`<span class="counts">${entries.map(([letter, n]) => {
		const kind = LETTER_CLASS[letter] ?? { value: "other", words: "Other" };
		return html`<span key=${letter} title=${`${n} × ${kind.words.toLowerCase()}, undecided`}>
			<i class=${`letter ${kind.value}`}>${letter}</i>${n}</span>`;
	})}</span>`;
}
