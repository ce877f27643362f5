/** What others did: signatures, and what the practice system and the archive answered. */

import { html } from "../vendor/preact.mjs";
import { roleWords, timeWords } from "../shared/chrome.mjs";
import * as at from "./store.mjs";
import { Late } from "./late.mjs";
import { call } from "../shared/api.mjs";
import { say } from "../shared/say.mjs";
import { may } from "../shared/session.mjs";
import { reload } from "./changes.mjs";

const STATES = {
	queued: ["waiting", "muted"], sending: ["sending", "muted"], unknown: ["checking what arrived", "warning"],
	done: ["done", "ok"], failed: ["refused", "danger"], held: ["held, a person must look", "warning"],
	declined: ["not possible there", "muted"], withdrawn: ["withdrawn", "muted"],
};

const KINDS = {
	AppendProcedureNote: "Note on the procedure", AppendCommlog: "Note in the log", UploadDocument: "Document",
	CreateTask: "Task", CloseTask: "Task closed",
};

/** A command's kind as people read it: `UploadDocument` is a document, an unknown one its words. */
export function kindWords(kind) {
	const words = kind.replaceAll("_", " ").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
	return KINDS[kind] ?? words[0].toUpperCase() + words.slice(1);
}

const OBJECTS = { SR: "Structured report", SC: "Annotated image", KO: "Rejection note" };

/** Where the entry stands in the practice system: "documents 27". */
export function keyWords(receipt) {
	if (!receipt?.key) return "";
	return `${receipt.resource ?? ""} ${receipt.key}${receipt.already_there ? ", found there already" : ""}`;
}

function countWords(counts) {
	return Object.entries(counts).filter(([, n]) => n).map(([state, n]) => `${n} ${state.replaceAll("_", " ")}`).join(", ");
}

export function Receipts() {
	const study = at.study.value;
	const { versions, receipts, deliveries, settings } = study;
	const zone = settings.time_zone;
	return html`<section class="receipts" aria-label="Signatures and receipts">
		${versions.length > 0 && html`<div class="row"><h2>Signed</h2><span class="grow"></span>
			${versions.length > 1 && html`<button class="quiet" onClick=${() => (at.dialog.value = "Versions")}>Differences</button>`}
			${may("patient_page.show") && !study.retractions.some((taken) => taken.version === versions.at(-1).version) && html`<a class="button quiet" href=${`/patient/${at.study.value.id}`} target="_blank" rel="noopener">Patient page</a>`}</div>`}
		${[...versions].reverse().map((v) => html`<p key=${v.version}><strong>Version ${v.version}</strong> ${[v.signer_name, roleWords(v.signer_role), timeWords(v.signed_at, zone)].join(", ")}
			<br /><span class="muted">${countWords(v.counts)}${v.reason && `. Reason: ${v.reason}`}</span></p>`)}
		${study.retractions.length > 0 && html`<${Late} name="Taken" load=${() => import("./taken.mjs")} />`}
		${(receipts.length > 0 || deliveries.length > 0) && html`<h2>Written</h2>`}
		${versions.length > 0 && !receipts.length && html`<p class="muted" role="status">Entries for the chart are being prepared.</p>`}
		<ul class="plain">${receipts.map((r) => html`<${Line} key=${r.id} item=${r} words=${kindWords(r.kind)} keys=${keyWords(r.receipt)} isWrite=${true} />`)}
			${deliveries.map((d) => html`<${Line} key=${d.id} item=${d} words=${`${OBJECTS[d.kind]} to ${d.peer}`} keys="" />`)}</ul>
	</section>`;
}

const RETRIABLE = ["failed", "held", "declined"];

/** Ask the node to write an entry again; what landed is searched for first. */
async function retry(id) {
	try {
		await call(`/api/receipts/${id}/retry`, { method: "POST" });
		say("Trying again. What landed already is found, not written twice.");
	} catch (problem) {
		at.notice.value = { kind: "bad", words: problem.words };
	}
	reload();
}

export function Line({ item, words, keys, isWrite }) {
	const [state, colour] = STATES[item.state] ?? [item.state, "muted"];
	return html`<li class="receipt"><span class=${`dot ${item.state === "done" ? "ready" : item.state === "failed" ? "bad" : "warn"}`}></span>
		<span class="grow">${words}${keys && html`<small>${keys}</small>`}${item.error && html`<small class=${item.state === "declined" ? "muted" : "danger"}>${item.error}</small>`}</span>
		<span class=${colour}>${state}${item.attempts > 1 && item.state !== "done" ? `, try ${item.attempts}` : ""}</span>
		${isWrite && RETRIABLE.includes(item.state) && may("writes.retry") && html`<button class="quiet" onClick=${() => retry(item.id)}>Try again</button>`}</li>`;
}
