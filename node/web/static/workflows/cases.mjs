/** Cases: where each stands, what it has done, and what a person can do about it. */

import { html, useEffect, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { may } from "../shared/session.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { words } from "./draft.mjs";

const LOOKS = {
	parked: "bad", retrying: "warn", asking: "warn", done: "good", cancelled: "", silent: "", waiting: "", running: "",
};

/** Cases, the latest change first. */
export function Cases({ rows, chosen, choose, zone }) {
	if (!rows) return html`<p class="muted">Loading…</p>`;
	if (!rows.length) return html`<div class="empty"><h2>No such case</h2></div>`;
	return rows.map((row) => html`<div key=${row.id} class=${`line ${row.id === chosen ? "chosen" : ""}`}>
		<button class="quiet" onClick=${() => choose(row.id)}>
			<b>${row.title}${row.patient && ` · ${row.patient}`}</b>
			<small>${row.error || words(row.stage)} · ${timeWords(row.updated_at, zone)}</small></button>
		<span class=${`pill ${LOOKS[row.state] ?? ""}`}>${row.state}</span>
	</div>`);
}

/** One case with its timeline. */
export function Case({ id, zone, onChanged }) {
	const [found, setFound] = useState(null);
	const [failure, setFailure] = useState("");
	const [reason, setReason] = useState("");
	const load = () => call(`/api/cases/${id}`, { isBackground: true }).then(setFound, (problem) => setFailure(problem.words));
	useEffect(() => {
		setFound(null);
		setFailure("");
		setReason("");
		load();
	}, [id]);
	const act = async (path, body) => {
		try {
			setFound(await call(`/api/cases/${id}/${path}`, { method: "POST", body }));
			setFailure("");
			onChanged();
		} catch (problem) {
			setFailure(problem.words);
		}
	};
	if (!found) return html`<p class=${failure ? "notice bad" : "muted"} role="status">${failure || "Loading…"}</p>`;
	const hasEnded = ["done", "cancelled", "silent"].includes(found.state);
	return html`<h2>${found.title} <span class=${`pill ${LOOKS[found.state] ?? ""}`}>${found.state}</span></h2>
		<p class="muted">${found.patient} ${found.wake_at && `· goes on ${timeWords(found.wake_at, zone)}`}</p>
		${found.error && html`<p class="notice warn">${found.error}</p>`}
		${failure && html`<p class="notice bad" role="alert">${failure}</p>`}
		${may("workflows.retry") && found.can_reopen && html`<div class="row">
			<button onClick=${() => act("retry")}>Take it up again</button></div>`}
		${may("workflows.retry") && !hasEnded && html`<div class="row">
			${["parked", "retrying"].includes(found.state) && html`<button class="primary" onClick=${() => act("retry")}>Try again now</button>`}
			<span class="grow"></span>
			<input aria-label="Why it is ended" placeholder="Why it is ended" value=${reason} onInput=${(event) => setReason(event.target.value)} />
			<button class="danger" disabled=${!reason.trim()} onClick=${() => act("cancel", { reason })}>End this case</button></div>`}
		${found.writes.length > 0 && html`<h3>Written to the PMS</h3>
			<ul class="timeline">${found.writes.map((write) => html`<li><time>${timeWords(write.at, zone)}</time>
				<span>${write.kind} · ${write.state}</span></li>`)}</ul>`}
		<h3>What happened</h3>
		<ol class="timeline">${found.timeline.map((entry) => html`<li><time>${timeWords(entry.at, zone)}</time>
			<span>${words(entry.kind)} ${entry.stage && `· ${words(entry.stage)}`} <small class="muted">${detail(entry.detail)}</small></span></li>`)}</ol>`;
}

function detail(value) {
	return Object.entries(value)
		.filter(([, each]) => each !== "" && !(Array.isArray(each) && !each.length))
		.map(([name, each]) => `${words(name)}: ${Array.isArray(each) ? each.join(", ") : each}`)
		.join(" · ");
}
