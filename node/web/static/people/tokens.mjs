/** Tokens of programs: which exist, a new one, an end to one. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { timeWords } from "../shared/chrome.mjs";
import { me } from "../shared/session.mjs";
import { attempt } from "./frame.mjs";

const found = signal({ tokens: [], possible: {} });
const made = signal("");
const owner = signal("");

/** Ask for the tokens again. */
export async function loadTokens() {
	found.value = await call("/api/tokens");
}

export function Tokens({ people }) {
	const programs = people.filter((person) => person.is_active && person.role === "service");
	const chosen = programs.find((person) => person.id === owner.value) ?? programs[0];
	const zone = me.value.settings.time_zone;
	const issue = (event) => {
		event.preventDefault();
		const form = event.currentTarget;
		const fields = new FormData(form);
		attempt(async () => {
			const body = { user_id: chosen.id, name: fields.get("name"), rights: fields.getAll("rights"), days: Number(fields.get("days")) };
			made.value = (await call("/api/tokens", { body })).token;
			form.reset();
			await loadTokens();
		}, "The token is made.");
	};
	const revoke = (id) => attempt(async () => {
		await call(`/api/tokens/${id}/revoke`, { method: "POST" });
		await loadTokens();
	}, "The token is revoked.");
	return html`<section aria-labelledby="h-tokens"><h2 id="h-tokens">Tokens of programs</h2>
		<p class="muted">A program sends its token with each request (Authorization: Bearer). Only its digest is kept here.</p>
		${made.value && html`<div class="notice good" role="status"><p>The new token; it is not shown again:</p><p class="secret">${made.value}</p></div>`}
		${found.value.tokens.length > 0 && html`<div class="scrolls" tabindex="0" role="group" aria-label="Tokens"><table class="queue"><thead><tr><th scope="col">Name</th><th scope="col">Account</th><th scope="col">May</th><th scope="col">Until</th><th scope="col">Last used</th><th scope="col"><span class="sr-only">Revoke</span></th></tr></thead>
			<tbody>${found.value.tokens.map((token) => html`<tr key=${token.id} class=${token.is_active ? "" : "gone"}><td>${token.name}</td><td>${token.username}</td><td>${token.rights.join(", ")}</td>
				<td class="nowrap">${timeWords(token.expires_at, zone)}</td><td class="nowrap">${timeWords(token.last_used_at, zone) || "never"}</td>
				<td>${token.is_active ? html`<button class="danger" aria-label=${`Revoke ${token.name}`} onClick=${() => revoke(token.id)}>Revoke</button>` : "ended"}</td></tr>`)}</tbody></table></div>`}
		${chosen
			? html`<form onSubmit=${issue}>
				<label class="field">Account <select onChange=${(event) => (owner.value = event.currentTarget.value)}>${programs.map((person) => html`<option key=${person.id} value=${person.id} selected=${person.id === chosen.id}>${person.display_name}</option>`)}</select></label>
				<label class="field">Name of the token <input name="name" required maxlength="64" autocomplete="off" /></label>
				<label class="field">Days <input name="days" type="number" min="1" max="366" value="90" required /></label>
				<fieldset><legend>May</legend><div class="choices">${(found.value.possible[chosen.id] ?? []).map((right) => html`<label key=${right}><input type="checkbox" name="rights" value=${right} /> ${right}</label>`)}</div></fieldset>
				<div><button>Make token</button></div></form>`
			: html`<p class="muted">Make an account with the role service first.</p>`}
	</section>`;
}
