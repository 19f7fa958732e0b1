"use strict";
// Buttons that copy a text. Without this script they are not shown, and nothing else is missing.
{
    const SHOWN = 2000; // milliseconds
    document.documentElement.classList.add("idempotency-script");

    const status = document.createElement("div");
    status.className = "visually-hidden";
    status.setAttribute("role", "status");
    document.addEventListener("DOMContentLoaded", () => document.body.append(status));

    // Browsers give the clipboard only to pages that came over HTTPS, or from this machine.
    function select(text) {
        const area = document.createElement("textarea");
        area.value = text;
        area.className = "idempotency-clipboard";
        document.body.append(area);
        area.select();
        const copied = document.execCommand("copy");
        area.remove();
        return copied;
    }

    async function copy(text) {
        try {
            await navigator.clipboard.writeText(text);
            return true;
        } catch {
            return select(text);
        }
    }

    document.addEventListener("click", async event => {
        const button = event.target.closest("button.idempotency-copy");
        if (!button || !(await copy(button.dataset.copy))) {
            return;
        }
        button.focus();
        button.classList.add("idempotency-copied");
        status.textContent = button.dataset.done;
        setTimeout(() => {
            button.classList.remove("idempotency-copied");
            status.textContent = "";
        }, SHOWN);
    });
}
