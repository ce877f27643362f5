/** The warning before the lock, and the lock itself; another person may take over as themselves. */

import { html, render, useState, useRef } from "../vendor/preact.mjs";
import { call, useToken } from "./api.mjs";
import { WARNING_S, lockState, me, proofOf, signOut, touch } from "./session.mjs";

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
	const [isOther, setOther] = useState(false);
	const [wantsCode, setWantsCode] = useState(false);
	const field = useRef(null);
	const name = useRef(null);
	const code = useRef(null);
	const [own, other] = [useFocused(field), useFocused(name)];
	const unlock = async (event) => {
		event.preventDefault();
		setBusy(true);
		setWords("");
		try {
			if (isOther) await takeOver(name.current.value, field.current.value, code.current?.value);
			else await goOn(field.current.value);
		} catch (problem) {
			setWords(problem.words);
			setBusy(false);
			if (problem.type === "second_factor") return setWantsCode(true);
			field.current.value = "";
			field.current.focus();
		}
		setBusy(false);
	};
	const proof = isOther || me.value.has_pin ? "PIN or password" : "Password";
	return html`<div class="lock" role="dialog" aria-modal="true" aria-label="Locked">
		<form onSubmit=${unlock}>
			<h1>Locked</h1>
			${isOther
				? html`<p class="muted">You take over this workstation with your own rights. What ${me.value.display_name} decided is kept.</p>
					<label class="field">User name <input ref=${other} autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="64" /></label>`
				: html`<p class="muted">Signed in as ${me.value.display_name}. Your work is kept.</p>
					<input type="text" class="sr-only" tabindex="-1" aria-hidden="true" autocomplete="username" value=${me.value.username} readonly />`}
			<label class="field">${proof}
				<input ref=${own} type="password" autocomplete="current-password" required maxlength="256" />
			</label>
			${isOther && wantsCode && html`<label class="field">Code of the authenticator app <input ref=${code} autocomplete="one-time-code" required maxlength="32" /></label>`}
			${words && html`<p class="notice bad" role="alert">${words}</p>`}
			<button class="primary" disabled=${isBusy}>${isOther ? "Take over" : "Unlock"}</button>
			<button type="button" onClick=${() => [setOther(!isOther), setWords(""), field.current.focus()]}>${isOther ? `I am ${me.value.display_name}` : "Somebody else"}</button>
			<button type="button" class="quiet" onClick=${signOut}>Sign out</button>
		</form>
	</div>`;
}

/** Focus a field as it appears: any later, and what is typed into the next one lands in it. */
function useFocused(ref) {
	return useRef((found) => ((ref.current = found), found?.focus())).current;
}

async function goOn(text) {
	const person = await call("/api/prove", { body: proofOf(text) });
	me.value = person;
	useToken(person.csrf_token);
	lockState.value = null;
	touch();
	dispatchEvent(new Event("bitewing-unlocked"));
}

/** The page is fetched anew, so that nothing of the person before is left on it. */
async function takeOver(username, text, code = "") {
	await call("/api/switch", { body: { username, code, ...proofOf(text, true) } });
	location.reload();
}
