/** What the stage says when there is no picture. */

import { html } from "../vendor/preact.mjs";
import { may } from "../shared/session.mjs";
import { Retry } from "../shared/retry.mjs";
import { loads } from "./looks.mjs";

export function Failure({ image }) {
	if (!image) {
		return html`<div class="over"><h2>No images in this study yet</h2><p>They appear here as soon as they arrive.</p></div>`;
	}
	return html`<div class="over" role="alert"><h2>This image cannot be shown</h2><p>${loads.value.get(image.id)}</p>
		<p class="muted">The other images are not affected. The file is kept as it was received.</p>
		<div class="row">
			${may("images.download") && html`<a class="button" href=${`/api/images/${image.id}/dicom`} download>Download DICOM</a>`}
			${may("analysis.retry") && html`<${Retry} id=${image.id} />`}</div></div>`;
}
