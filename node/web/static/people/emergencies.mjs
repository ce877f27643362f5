/** What was opened in emergencies, for the office manager and the auditor. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { roleWords, timeWords } from "../shared/chrome.mjs";
import { may, me } from "../shared/session.mjs";
import { attempt, open } from "./frame.mjs";

const found = signal(null);
const load = () => attempt(async () => (found.value = await call("/api/emergencies")));

const review = (id) => attempt(async () => {
	await call(`/api/emergencies/${id}/reviewed`, { method: "POST" });
	await load();
}, "Recorded that you looked at it.");

function Page() {
	const zone = me.value.settings.time_zone;
	if (!found.value) return html`<p class="muted">Loading</p>`;
	return html`<section><p>${found.value.not_reviewed ? html`<b class="warning">${found.value.not_reviewed} not looked at yet.</b>` : "Everything has been looked at."}</p>
		${found.value.accesses.length === 0 && html`<p class="muted">Nothing was opened in an emergency in the last three months.</p>`}
		${found.value.accesses.length > 0 && html`<div class="scrolls" tabindex="0" role="group" aria-label="Emergency accesses"><table class="queue"><thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">Why</th><th scope="col">Study</th><th scope="col">Looked at</th></tr></thead>
			<tbody>${found.value.accesses.map((one) => html`<tr key=${one.id}><td class="nowrap">${timeWords(one.at, zone)}<small>until ${timeWords(one.expires_at, zone)}</small></td>
				<td>${one.display_name}<small>${roleWords(one.role)}</small></td><td>${one.reason}</td>
				<td>${may("images.see") ? html`<a href=${`/review/${one.study_id}`}>Open</a>` : html`<small>${one.study_id.slice(0, 8)}</small>`}</td>
				<td>${one.reviewed_at ? html`${one.reviewed_by}<small>${timeWords(one.reviewed_at, zone)}</small>` : one.is_own ? "by somebody else" : html`<button aria-label=${`Looked at the access of ${one.display_name}`} onClick=${() => review(one.id)}>I looked at it</button>`}</td></tr>`)}</tbody></table></div>`}</section>`;
}

open("Emergency accesses", Page, load);
