// The few icons of the page, drawn on a grid of 24.

const PATHS = {
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  loud: "M4 9.5v5h3.5l4.5 4v-13l-4.5 4zM15.5 8.5a5 5 0 0 1 0 7l1.2 1.2a6.7 6.7 0 0 0 0-9.4zM18 6l1.2-1.2a10.2 10.2 0 0 1 0 14.4L18 18a8.5 8.5 0 0 0 0-12z",
  muted: "M4 9.5v5h3.5l4.5 4v-13l-4.5 4zM15 9.7l1.2-1.2 2.3 2.3 2.3-2.3L22 9.7 19.7 12l2.3 2.3-1.2 1.2-2.3-2.3-2.3 2.3-1.2-1.2 2.3-2.3z",
  fullscreen: "M4 4h6v2H6v4H4zM14 4h6v6h-2V6h-4zM4 14h2v4h4v2H4zM18 14h2v6h-6v-2h4z",
  copy: "M8 4h11v13h-2V6H8zM5 7.5h10V20H5zM7 9.5V18h6V9.5z",
  check: "M9.5 17.5 4.5 12.5l1.4-1.4 3.6 3.6 8.6-8.6 1.4 1.4z",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} fill-rule="evenodd" />
    </svg>
  );
}
