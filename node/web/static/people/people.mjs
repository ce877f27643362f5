/** Accounts of the location, and tokens of programs; for administrators. */

import { html, signal } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import { roleWords, timeWords } from "../shared/chrome.mjs";
import { me } from "../shared/session.mjs";
import { attempt, open } from "./frame.mjs";
import { Tokens, loadTokens } from "./tokens.mjs";

const found = signal({ people: [], roles: [], strict_roles: [], issuer: "", providers: [] });
const made = signal(null);
const chosen = signal(null);

async function load() {
	await attempt(async () => {
		found.value = await call("/api/people");
		await loadTokens();
	});
}

async function act(words, action) {
	if (await attempt(action, words)) await load();
}

function Roles({ value, isProgram }) {
	const fits = (role) => value === undefined || (role === "service") === isProgram;
	return html`<label class="field">Role <select name="role">${found.value.roles.filter(fits).map((role) => html`<option key=${role} value=${role} selected=${role === value}>${roleWords(role)}</option>`)}</select></label>`;
}

function Made() {
	if (!made.value?.password) return null;
	return html`<div class="notice good" role="status"><p>First password of ${made.value.person.display_name} (${made.value.person.username}); it is not shown again, and must be changed at the first sign-in:</p>
		<p class="secret">${made.value.password}</p></div>`;
}

function Add() {
	const add = (event) => {
		event.preventDefault();
		const form = event.currentTarget;
		const body = Object.fromEntries(new FormData(form));
		act("The account is made.", async () => {
			made.value = await call("/api/people", { body });
			form.reset();
		});
	};
	return html`<section aria-labelledby="h-add"><h2 id="h-add">New account</h2><form class="wide" onSubmit=${add}>
		<label class="field">User name <input name="username" required maxlength="64" autocapitalize="none" spellcheck="false" autocomplete="off" /></label>
		<label class="field">Name shown on reviews <input name="display_name" required maxlength="128" autocomplete="off" /></label>
		<${Roles} />
		<label class="field">User in the practice system <input name="pms_user_key" maxlength="64" autocomplete="off" /></label>
		<label class="field">Provider in the practice system <input name="provider_key" maxlength="64" autocomplete="off" list="providers" /></label>
		<div><button class="primary">Make account</button></div></form></section>`;
}

function Change({ person }) {
	const save = (event) => {
		event.preventDefault();
		const body = Object.fromEntries(new FormData(event.currentTarget));
		act("Saved. It counts from now on.", async () => {
			await call(`/api/people/${person.id}`, { body });
			chosen.value = null;
		});
	};
	return html`<tr><td colspan="5"><form class="wide" onSubmit=${save} aria-label=${`Change ${person.username}`}>
		<label class="field">Name shown on reviews <input name="display_name" required maxlength="128" value=${person.display_name} /></label>
		<${Roles} value=${person.role} isProgram=${person.role === "service"} />
		<label class="field">User in the practice system <input name="pms_user_key" maxlength="64" value=${person.pms_user_key} /></label>
		<label class="field">Provider in the practice system <input name="provider_key" maxlength="64" value=${person.provider_key} list="providers" /></label>
		${found.value.issuer && html`<label class="field">Subject at the sign-in service <input name="sign_in_subject" maxlength="255" value=${person.sign_in_subject} /></label>`}
		<div class="actions"><button class="primary">Save</button><button type="button" onClick=${() => (chosen.value = null)}>Back</button></div></form></td></tr>`;
}

function stateOf(person) {
	const zone = me.value.settings.time_zone;
	if (!person.is_active) return "disabled";
	if (person.rests_until) return `rests until ${timeWords(person.rests_until, zone)} after wrong passwords`;
	return person.must_change_password ? "has a first password" : "";
}

function Line({ person }) {
	const zone = me.value.settings.time_zone;
	const post = (path, words, body = {}) => act(words, async () => {
		const answer = await call(`/api/people/${person.id}${path}`, { body });
		if (path === "/reset") made.value = answer;
	});
	const isSelf = person.id === me.value.user_id;
	const isProgram = person.role === "service";
	const proofs = [person.has_password && "password", person.has_pin && "PIN", person.has_second_factor && "authenticator app", person.sign_in_subject && "sign-in service"].filter(Boolean);
	const isStrict = found.value.strict_roles.includes(person.role) && !person.has_second_factor;
	return html`<tr class=${person.is_active ? "" : "gone"}><td><b>${person.display_name}</b><small>${person.username}</small></td>
		<td>${roleWords(person.role)}<small class="warning">${stateOf(person)}</small></td>
		<td>${isProgram ? "tokens" : proofs.join(", ") || "nothing yet"}${isStrict && html`<small class="warning">must set up an authenticator app</small>`}</td>
		<td class="nowrap">${timeWords(person.last_seen_at, zone) || "never"}<small>${person.sessions ? `${person.sessions} open` : ""}</small></td>
		<td><div class="actions">
			<button aria-label=${`Change ${person.username}`} onClick=${() => (chosen.value = person.id)}>Change</button>
			${!isSelf && html`<button aria-label=${`${person.is_active ? "Disable" : "Enable"} ${person.username}`} class=${person.is_active ? "danger" : ""} onClick=${() => post("", person.is_active ? "Disabled; every session ended." : "Enabled.", { is_active: !person.is_active })}>${person.is_active ? "Disable" : "Enable"}</button>`}
			${!isSelf && !isProgram && html`<button aria-label=${`New password for ${person.username}`} onClick=${() => post("/reset", "A first password is made.")}>New password</button>`}
			${person.has_second_factor && !isSelf && html`<button aria-label=${`Remove the authenticator app of ${person.username}`} onClick=${() => post("/second-factor/remove", "The authenticator app is removed.")}>Remove app</button>`}
			${person.sessions > 0 && !isSelf && html`<button aria-label=${`End the sessions of ${person.username}`} onClick=${() => post("/sessions/end", "Every session is ended.")}>Sign out</button>`}
		</div></td></tr>`;
}

function Page() {
	return html`<${Made} /><datalist id="providers">${found.value.providers.map((one) => html`<option key=${one.key} value=${one.key}>${one.name}</option>`)}</datalist>
		<section aria-labelledby="h-people"><h2 id="h-people">Accounts</h2>
		<div class="scrolls" tabindex="0" role="group" aria-label="Accounts"><table class="queue"><thead><tr><th scope="col">Who</th><th scope="col">Role</th><th scope="col">Signs in with</th><th scope="col">Last seen</th><th scope="col">Do</th></tr></thead>
			<tbody>${found.value.people.map((person) => (chosen.value === person.id ? html`<${Change} key=${person.id} person=${person} />` : html`<${Line} key=${person.id} person=${person} />`))}</tbody></table></div></section>
		<${Add} /><${Tokens} people=${found.value.people} />`;
}

open("People and tokens", Page, load);
