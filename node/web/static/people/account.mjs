/** A person's own account: password, PIN, second factor, where they are signed in. */

import { html, signal } from "../vendor/preact.mjs";
import { call, useToken } from "../shared/api.mjs";
import { roleWords, timeWords } from "../shared/chrome.mjs";
import { me } from "../shared/session.mjs";
import { attempt, failure, open } from "./frame.mjs";

const sessions = signal([]);
const factor = signal({ is_on: false, codes_left: 0 });
const begun = signal(null);
const codes = signal(null);
const done = signal("");
const METHODS = { password: "password", pin: "PIN at a workstation", oidc: "the practice's sign-in service", program: "a program" };

async function load() {
	await attempt(async () => {
		sessions.value = (await call("/api/sessions")).sessions;
		factor.value = await call("/api/second-factor");
	});
}

/** Take the person as the node describes them now. */
function become(person) {
	me.value = person;
	useToken(person.csrf_token);
}

const fieldsOf = (event) => {
	event.preventDefault();
	return Object.fromEntries(new FormData(event.currentTarget));
};

async function act(form, words, action) {
	done.value = "";
	if (await attempt(action, words)) {
		done.value = words;
		form?.reset?.();
		await load();
	}
}

function changePassword(event) {
	const form = event.currentTarget;
	const fields = fieldsOf(event);
	if (fields.new_password !== fields.again) return void (failure.value = "The two new passwords differ.");
	act(form, "Your password is changed. You are signed out everywhere else.", async () => {
		become(await call("/api/password", { body: { password: fields.password, new_password: fields.new_password } }));
	});
}

function changePin(event) {
	const form = event.currentTarget;
	const fields = fieldsOf(event);
	act(form, fields.pin ? "Your PIN is changed." : "You have no PIN now.", async () => {
		become(await call("/api/pin", { body: { password: fields.password ?? "", pin: fields.pin } }));
	});
}

function Password() {
	return html`<section aria-labelledby="h-password"><h2 id="h-password">Password</h2>
		<form onSubmit=${changePassword}>
			<input type="text" class="sr-only" tabindex="-1" aria-hidden="true" autocomplete="username" value=${me.value.username} readonly />
			<label class="field">Password now <input name="password" type="password" autocomplete="current-password" required maxlength="256" /></label>
			<label class="field">New password (8 characters or more) <input name="new_password" type="password" autocomplete="new-password" required minlength="8" maxlength="256" /></label>
			<label class="field">New password again <input name="again" type="password" autocomplete="new-password" required minlength="8" maxlength="256" /></label>
			<div><button class="primary">Change password</button></div></form></section>`;
}

function Pin() {
	return html`<section aria-labelledby="h-pin"><h2 id="h-pin">PIN</h2>
		<p class="muted">${me.value.has_pin ? "You have a PIN." : "You have no PIN."} It unlocks, signs and switches to you at a workstation where somebody is signed in. 6 to 12 digits; an empty field takes it away.</p>
		<form onSubmit=${changePin}>
			${me.value.has_password && html`<label class="field">Password <input name="password" type="password" autocomplete="current-password" required maxlength="256" /></label>`}
			<label class="field">New PIN <input name="pin" type="password" inputmode="numeric" autocomplete="off" maxlength="12" /></label>
			<div><button>Set PIN</button></div></form></section>`;
}

function Factor() {
	const begin = (event) => {
		const form = event.currentTarget;
		const fields = fieldsOf(event);
		act(form, "Scan the picture with your authenticator app.", async () => {
			begun.value = await call("/api/second-factor", { body: { password: fields.password } });
		});
	};
	const confirm = (event) => {
		const fields = fieldsOf(event);
		act(null, "Your authenticator app is set up. Keep the recovery codes.", async () => {
			codes.value = (await call("/api/second-factor/confirm", { body: { code: fields.code.replaceAll(" ", "") } })).codes;
			begun.value = null;
			become(await call("/api/me"));
		});
	};
	const renew = (event) => {
		const form = event.currentTarget;
		const fields = fieldsOf(event);
		const isRemoval = event.submitter?.value === "remove";
		act(form, isRemoval ? "The authenticator app is removed." : "New recovery codes; the old ones count no more.", async () => {
			const path = isRemoval ? "remove" : "recovery-codes";
			const answer = await call(`/api/second-factor/${path}`, { body: { password: fields.password } });
			codes.value = answer?.codes ?? null;
			become(await call("/api/me"));
		});
	};
	const password = html`<label class="field">Password <input name="password" type="password" autocomplete="current-password" required maxlength="256" /></label>`;
	return html`<section aria-labelledby="h-factor"><h2 id="h-factor">Authenticator app</h2>
		${codes.value && html`<div class="notice good"><p>Recovery codes: each signs you in once when the phone is lost. Write them down now; they are not shown again.</p>
			<ol class="codes">${codes.value.map((code) => html`<li key=${code}>${code}</li>`)}</ol></div>`}
		${begun.value
			? html`<p>Scan this with any authenticator app, or type the letters below it; then give the code that it shows.</p>
				<svg class="qr" viewBox=${`0 0 ${begun.value.side} ${begun.value.side}`} role="img" aria-label="Picture for the authenticator app"><path d=${begun.value.picture} /></svg>
				<p class="secret">${begun.value.secret.match(/.{1,4}/g).join(" ")}</p>
				<form onSubmit=${confirm}><label class="field">Code <input name="code" inputmode="numeric" autocomplete="one-time-code" required minlength="6" maxlength="8" /></label>
					<div><button class="primary">Confirm</button></div></form>`
			: factor.value.is_on
				? html`<p>Signing in asks for a code of your app. ${factor.value.codes_left} recovery codes are left.</p>
					<form onSubmit=${renew}>${password}<div class="row"><button value="renew">New recovery codes</button><button class="danger" value="remove">Remove the app</button></div></form>`
				: html`<p class="muted">A code from your phone, asked for beside the password when you sign in.</p>
					<form onSubmit=${begin}>${password}<div><button class=${me.value.owes ? "primary" : ""}>Set up an authenticator app</button></div></form>`}
	</section>`;
}

function Sessions() {
	const zone = me.value.settings.time_zone;
	const end = (id) => act(null, "That session is ended.", () => call(`/api/sessions/${id}/end`, { method: "POST" }));
	const endOthers = () => act(null, "You are signed out everywhere else.", () => call("/api/sessions/end-others", { method: "POST" }));
	return html`<section aria-labelledby="h-sessions"><h2 id="h-sessions">Where you are signed in</h2>
		<div class="scrolls" tabindex="0" role="group" aria-label="Sessions"><table class="queue"><thead><tr><th scope="col">Since</th><th scope="col">Last used</th><th scope="col">From</th><th scope="col">By</th><th scope="col"><span class="sr-only">End</span></th></tr></thead>
			<tbody>${sessions.value.map((one) => html`<tr key=${one.id}><td class="nowrap">${timeWords(one.created_at, zone)}</td><td class="nowrap">${timeWords(one.last_seen_at, zone)}</td>
				<td>${one.address || "?"}<small>${one.agent}</small></td><td>${METHODS[one.method] ?? one.method}</td>
				<td>${one.is_this ? html`<span class="pill good">this one</span>` : html`<button onClick=${() => end(one.id)}>End</button>`}</td></tr>`)}</tbody></table></div>
		<div><button onClick=${endOthers}>Sign out everywhere else</button></div></section>`;
}

function Page() {
	const owes = { password: "Choose a password of your own before you go on.", second_factor: "Your role needs an authenticator app. Set it up before you go on." }[me.value.owes];
	return html`<p class="muted">${me.value.display_name}, ${me.value.username}: ${roleWords(me.value.role)}</p>
		${owes && html`<p class="notice warn">${owes}</p>`}
		${done.value && html`<p class="notice good" role="status">${done.value} ${!me.value.owes && !begun.value && html`<a href="/">Go on</a>`}</p>`}
		${me.value.has_password && html`<${Password} />`}
		${me.value.owes !== "password" && html`${me.value.has_password && html`<${Factor} />`}<${Pin} /><${Sessions} />`}`;
}

open("Your account", Page, load);
