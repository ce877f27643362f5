/** The warning before the lock, and the lock itself; fetched when first needed. */

import { html, render, useState, useEffect, useRef } from "../vendor/preact.mjs";
import { call, useToken } from "./api.mjs";
import { WARNING_S, lockState, me, signOut, touch } from "./session.mjs";

let place = null;
/** Follow the lock's state from now on. */
export function show() {
	if (place) return;
	place = document.createElement("div");
	document.body.append(place);
	render(html`<${Lock} />`, place);
}

function Lock() {
	const state = lockState.value;
	if (state === "warning") {
		return html`<div class="toast" role="alert">
			This screen locks in ${WARNING_S} seconds. Press any key to stay.
		</div>`;
	}
	return state === "locked" ? html`<${Unlock} />` : null;
}

function Unlock() {
	const [words, setWords] = useState("");
	const [isBusy, setBusy] = useState(false);
	const field = useRef(null);
	useEffect(() => field.current?.focus(), []);
	const unlock = async (event) => {
		event.preventDefault();
		setBusy(true);
		try {
			const person = await call("/api/prove", { body: { password: field.current.value } });
			me.value = person;
			useToken(person.csrf_token);
			lockState.value = null;
			touch();
			dispatchEvent(new Event("bitewing-unlocked"));
		} catch (problem) {
			setWords(problem.words);
			field.current.value = "";
			field.current.focus();
		}
		setBusy(false);
	};
	return html`<div class="lock" role="dialog" aria-modal="true" aria-label="Locked">
		<form onSubmit=${unlock}>
			<h1>Locked</h1>
			<p class="muted">Signed in as ${me.value.display_name}. Your work is kept.</p>
			<input type="text" class="sr-only" tabindex="-1" aria-hidden="true" autocomplete="username"
				value=${me.value.username} readonly />
			<label class="field">Password
				<input ref=${field} type="password" autocomplete="current-password" required />
			</label>
			${words && html`<p class="notice bad" role="alert">${words}</p>`}
			<button class="primary" disabled=${isBusy}>Unlock</button>
			<button type="button" onClick=${signOut}>Sign in as someone else</button>
		</form>
	</div>`;
}
