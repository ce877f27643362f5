/** After the signature: a further version. */

import { html, useState } from "../vendor/preact.mjs";
import { call } from "../shared/api.mjs";
import * as at from "./store.mjs";
import { reload } from "./changes.mjs";
import { Modal } from "./modal.mjs";

export function Amend() {
	const [problem, setProblem] = useState(null);
	const submit = async (event) => {
		event.preventDefault();
		const reason = new FormData(event.currentTarget).get("reason");
		try {
			const { next_version } = await call(`/api/studies/${at.study.value.id}/amend`, { body: { reason } });
			at.dialog.value = null;
			await reload(false);
			at.notice.value = { kind: "warn", words: `Amending: version ${next_version} is open. Version ${next_version - 1} stays readable until you sign.` };
		} catch (refused) {
			setProblem(refused);
		}
	};
	const last = at.study.value.versions.at(-1);
	return html`<${Modal} title="Amend the signed study"
			footer=${html`<span class="grow"></span><button class="primary" form="amend-form">Amend <kbd>Enter</kbd></button>`}>
		<p>Version ${last?.version} was signed by ${last?.signer_name}. It is kept. A new version needs a reason and a new signature.</p>
		<form id="amend-form" onSubmit=${submit}><label class="field">Reason
			<input name="reason" minlength="3" maxlength="255" required autocomplete="off" autofocus /></label></form>
		${problem && html`<p class="notice bad" role="alert">${problem.words}</p>`}
	</${Modal}>`;
}
