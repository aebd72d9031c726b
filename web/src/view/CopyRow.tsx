// A line of text with a button that copies it.

import { useRef, useState } from "preact/hooks";
import { Icon } from "./Icon";

/** How long the button says that it has copied. */
const COPIED_SHOWN_MS = 1600;

export function CopyRow({ label, text }: { label: string; text: string }) {
  const code = useRef<HTMLElement>(null);
  const [copied, setCopied] = useState(false);

  const copy = async () => {
    if (!(await copyText(text, code.current))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), COPIED_SHOWN_MS);
  };

  return (
    <div class="copy-row">
      <span class="label">{label}</span>
      <code ref={code} tabIndex={0}>
        {text}
      </code>
      <button type="button" onClick={() => void copy()} aria-label={`Copy: ${label}`}>
        <Icon name={copied ? "check" : "copy"} />
        <span aria-live="polite">{copied ? "Copied" : "Copy"}</span>
      </button>
    </div>
  );
}

async function copyText(text: string, shownIn: HTMLElement | null): Promise<boolean> {
  // Browsers offer the clipboard only on secure origins; a server on a local network seldom is one.
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused: try the old way.
    }
  }
  if (!shownIn) return false;
  getSelection()?.selectAllChildren(shownIn);
  return document.execCommand("copy");
}
