/** Outside parties: which may be called, on which agreement, and until when. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { attempt, open } from "./frame.mjs";

const found = signal(null);
const chosen = signal("");
const load = () => attempt(async () => (found.value = await call("/api/partners")));

/** SHA-256 of a file, in hex; the file itself stays on this machine. */
async function digestOf(file) {
	const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
	return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function record(event) {
	event.preventDefault();
	const form = event.currentTarget;
	const fields = new FormData(form);
	attempt(async () => {
		const digest = fields.get("digest").trim().toLowerCase() || (await digestOf(fields.get("document")));
		const body = { party: chosen.value, counterparty: fields.get("counterparty"), signed_by: fields.get("signed_by"), signed_on: fields.get("signed_on"), valid_until: fields.get("valid_until"), document_sha256: digest };
		found.value = await call("/api/partners", { body });
		chosen.value = "";
	}, "The agreement is recorded. What waited for it goes on.");
}

const end = (one) => {
	const reason = prompt(`Why does the agreement with ${one.counterparty} end? Nothing more will be sent to ${one.name}.`);
	if (reason) attempt(async () => (found.value = await call(`/api/partners/${one.agreement_id}/revoke`, { body: { reason } })), "The agreement has ended.");
};

function Form({ one }) {
	return html`<form class="wide" onSubmit=${record}>
		<h2>Agreement with ${one.name}</h2>
		<label class="field">Other side's legal name <input name="counterparty" required maxlength="128" /></label>
		<label class="field">Signed for the practice by <input name="signed_by" required maxlength="128" /></label>
		<label class="field">Signed on <input name="signed_on" type="date" required /></label>
		<label class="field">Last day <input name="valid_until" type="date" required /></label>
		<label class="field">The signed paper <input name="document" type="file" /></label>
		<label class="field">or its SHA-256 <input name="digest" maxlength="64" pattern="[0-9A-Fa-f]{64}" /></label>
		<div class="actions"><button class="primary">Record</button><button type="button" onClick=${() => (chosen.value = "")}>Cancel</button></div>
		<p class="muted">Only the paper's digest is sent; keep the paper with the practice's contracts.</p></form>`;
}

function Page() {
	if (!found.value) return html`<p class="muted">Loading</p>`;
	const partners = found.value.partners;
	const one = partners.find((each) => each.party === chosen.value);
	return html`<section><p>Nothing is sent to an outside party before its agreement (BAA) is recorded here, and nothing after it has ended. What was to be sent waits.</p>
		${partners.length === 0 && html`<p class="muted">The configuration names no outside party.</p>`}
		${partners.length > 0 && html`<div class="scrolls" tabindex="0" role="group" aria-label="Outside parties"><table class="queue"><thead><tr><th scope="col">Party</th><th scope="col">Standing</th><th scope="col">Agreement</th><th scope="col"><span class="sr-only">Change</span></th></tr></thead>
			<tbody>${partners.map((each) => html`<tr key=${each.party}><td>${each.name}<small>${each.party}</small></td>
				<td>${each.may_be_called ? (each.words && each.needs_agreement ? html`<b class="warning">${each.words}</b>` : each.words || "may be called") : html`<b class="bad">${each.words}</b>`}</td>
				<td>${each.counterparty ? html`${each.counterparty}<small>signed ${each.signed_on} by ${each.signed_by}, until ${each.valid_until}</small><small>${each.document_sha256.slice(0, 16)}…</small>` : html`<span class="muted">none</span>`}</td>
				<td><span class="actions"><button onClick=${() => (chosen.value = each.party)} aria-label=${`Record an agreement with ${each.name}`}>Record</button>
					${each.agreement_id && html`<button onClick=${() => end(each)} aria-label=${`End the agreement with ${each.name}`}>End</button>`}</span></td></tr>`)}</tbody></table></div>`}
		${one && html`<${Form} one=${one} />`}</section>`;
}

open("Partners", Page, load);
