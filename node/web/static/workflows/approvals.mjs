/** What waits for a decision: the drafts, and approve, edit or refuse. */

import { html, useEffect, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { say } from "../shared/say.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { Draft, changed } from "./draft.mjs";

/** The list; several of one kind may be ticked and approved together after they were looked at. */
export function Approvals({ rows, chosen, choose, zone, onDecided }) {
	const [ticked, setTicked] = useState([]);
	const [read, setRead] = useState([]);
	if (!rows) return html`<p class="muted">Loading…</p>`;
	if (!rows.length) {
		return html`<div class="empty"><h2>Nothing waits for a decision</h2>
			<p>Drafts that need a person appear here.</p></div>`;
	}
	const open = (id) => {
		setRead([...new Set([...read, id])]);
		choose(id);
	};
	const tick = (id) => setTicked(ticked.includes(id) ? ticked.filter((each) => each !== id) : [...ticked, id]);
	const approve = async () => {
		try {
			const answer = await call("/api/approvals", { body: { ids: ticked } });
			const failed = Object.keys(answer.refused).length;
			say(`${answer.decided} approved${failed ? `, ${failed} could not be` : ""}.`);
			setTicked([]);
			onDecided();
		} catch (problem) {
			say(problem.words);
		}
	};
	return html`${ticked.length > 0 && html`<p class="row">
			<button class="primary" onClick=${approve}>Approve ${ticked.length} drafts as they are</button></p>`}
		${rows.map((row) => html`<div key=${row.id} class=${`line ${row.id === chosen ? "chosen" : ""}`}>
			<input type="checkbox" aria-label=${`Choose ${row.title}`} checked=${ticked.includes(row.id)}
				disabled=${!row.may_decide || !read.includes(row.id)}
				title=${read.includes(row.id) ? "" : "Read the draft first"} onChange=${() => tick(row.id)} />
			<button class="quiet" onClick=${() => open(row.id)}>
				<b>${row.title}${row.patient && ` · ${row.patient}`}</b>
				<small>${row.workflow_title} · since ${timeWords(row.created_at, zone)}
					${!row.may_decide && " · for somebody else"}${row.held && html` · <b>held: switched back to silent</b>`}</small></button>
			${row.is_escalated && html`<span class="pill warn">overdue</span>`}
		</div>`)}`;
}

/** One draft and what may be said to it. */
export function Approval({ id, onDecided }) {
	const [found, setFound] = useState(null);
	const [draft, setDraft] = useState(null);
	const [reason, setReason] = useState("");
	const [failure, setFailure] = useState("");
	useEffect(() => {
		setFound(null);
		setDraft(null);
		setReason("");
		setFailure("");
		call(`/api/approvals/${id}`).then(setFound, (problem) => setFailure(problem.words));
	}, [id]);
	const decide = async (verdict) => {
		try {
			const body = { verdict, reason, ...(verdict === "edited" ? { draft } : {}) };
			await call(`/api/approvals/${id}`, { body });
			say(verdict === "refused" ? "Refused." : "Approved.");
			onDecided();
		} catch (problem) {
			setFailure(problem.words);
		}
	};
	if (!found) return html`<p class=${failure ? "notice bad" : "muted"} role="status">${failure || "Loading…"}</p>`;
	const change = draft && ((path, value) => setDraft(changed(draft, path, value)));
	return html`<h2>${found.title}</h2>
		<p class="muted">${found.patient} · ${found.workflow_title}</p>
		<${Draft} value=${draft ?? found.draft} change=${change} />
		${found.held && html`<p role="note">${found.held[0].toUpperCase()}${found.held.slice(1)}.</p>`}
		${found.may_decide && html`<div class="verdict">
			${failure && html`<p class="notice bad" role="alert">${failure}</p>`}
			<label class="field">Reason (for an edit or a refusal)
				<input value=${reason} onInput=${(event) => setReason(event.target.value)} maxlength="2000" /></label>
			<div class="row">
				${draft
					? html`<button class="primary" disabled=${!reason.trim()} onClick=${() => decide("edited")}>Approve as edited</button>
						<button onClick=${() => setDraft(null)}>Undo the edits</button>`
					: html`<button class="primary" onClick=${() => decide("approved")}>Approve</button>
						<button onClick=${() => setDraft(found.draft)}>Edit</button>`}
				<span class="grow"></span>
				<button class="danger" disabled=${!reason.trim()} onClick=${() => decide("refused")}>Refuse</button>
			</div></div>`}`;
}
