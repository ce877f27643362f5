/** The sign-in page. */

import { html, render, useState, useRef } from "./vendor/preact.mjs";
import { boot, call } from "./shared/api.mjs";
import { Mark, NOT_CLEARED } from "./shared/chrome.mjs";

const start = boot();

/** Where to go after signing in: a page of this node, never elsewhere. */
function destination() {
	const next = new URLSearchParams(location.search).get("next") ?? "/";
	return /^\/(?![/\\])[\x21-\x7e]*$/.test(next) && !next.startsWith("/login") ? next : "/";
}

function Login() {
	const [words, setWords] = useState(start.failure ?? "");
	const [isBusy, setBusy] = useState(false);
	const [wantsCode, setWantsCode] = useState(false);
	const password = useRef(null);
	const submit = async (event) => {
		event.preventDefault();
		const fields = new FormData(event.currentTarget);
		setBusy(true);
		setWords("");
		try {
			await call("/api/login", {
				body: { username: fields.get("username"), password: fields.get("password"), code: fields.get("code") ?? "" },
			});
			location.assign(destination());
		} catch (problem) {
			setBusy(false);
			setWords(problem.words);
			if (problem.type === "second_factor") return setWantsCode(true);
			setWantsCode(false);
			password.current.value = "";
			password.current.focus();
		}
	};
	return html`<div class="login">
		<main>
			<form onSubmit=${submit} aria-describedby="about">
				<h1><${Mark} /> Bitewing</h1>
				${start.practice_name && html`<p class="muted" id="about">${start.practice_name}</p>`}
				<label class="field">User name
					<input name="username" autocomplete="username" autocapitalize="none" spellcheck="false"
						required maxlength="64" />
				</label>
				<label class="field">Password
					<input ref=${password} name="password" type="password" autocomplete="current-password"
						required maxlength="256" />
				</label>
				${wantsCode && html`<label class="field">Code of the authenticator app, or a recovery code
					<input ref=${(field) => field?.focus()} name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required maxlength="32" /></label>`}
				${words && html`<p class=${`notice ${wantsCode ? "" : "bad"}`} role="alert">${words}</p>`}
				<button class="primary" disabled=${isBusy}>${isBusy ? "Signing in" : "Sign in"}</button>
				${start.sign_in_label && html`<a class="button" href=${`/oidc/sign-in?next=${encodeURIComponent(destination())}`}>${start.sign_in_label}</a>`}
			</form>
		</main>
		<footer class="footline"><span>${NOT_CLEARED}</span><span class="grow"></span>
			<span>Bitewing ${start.software_version ?? ""}</span></footer>
	</div>`;
}

render(html`<${Login} />`, document.getElementById("app"));
document.querySelector("input[name=username]")?.focus();
