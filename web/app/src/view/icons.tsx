// One stroke set: 24 px, 1.75 stroke, drawn in the colour of the text around it.

import type { ComponentChildren } from 'preact'

function Icon({ children }: { children: ComponentChildren }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  )
}

const handset =
  'M8.6 3.6 10.4 8 8 9.9a11.6 11.6 0 0 0 6.1 6.1l1.9-2.4 4.4 1.8v3.3a2 2 0 0 1-2.2 2A16.6 16.6 0 0 1 3.3 5.8a2 2 0 0 1 2-2.2z'

export const VideoIcon = () => (
  <Icon>
    <rect x="2.5" y="6" width="12.5" height="12" rx="3.25" />
    <path d="m15 10.7 5-3.1a1 1 0 0 1 1.5.8v7.2a1 1 0 0 1-1.5.8l-5-3.1" />
  </Icon>
)

export const VideoOffIcon = () => (
  <Icon>
    <path d="M9.5 6h2.3A3.2 3.2 0 0 1 15 9.2v1.5l5-3.1a1 1 0 0 1 1.5.8v7.2M15 15v.8a2.2 2.2 0 0 1-2.2 2.2H5.7a3.2 3.2 0 0 1-3.2-3.2V9.2c0-1.3.8-2.4 1.9-2.9" />
    <path d="m3.5 3.5 17 17" />
  </Icon>
)

export const VoiceIcon = () => (
  <Icon>
    <path d={handset} />
  </Icon>
)

export const HangupIcon = () => (
  <Icon>
    <path transform="rotate(135 12 12)" d={handset} />
  </Icon>
)

export const MicIcon = () => (
  <Icon>
    <rect x="9" y="2.75" width="6" height="11.5" rx="3" />
    <path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3.25" />
  </Icon>
)

export const MicOffIcon = () => (
  <Icon>
    <path d="M9.1 5a3 3 0 0 1 5.9.75v5.1M14.3 13.6A3 3 0 0 1 9 11.4V9" />
    <path d="M5.5 11.5a6.5 6.5 0 0 0 10.9 4.8M18.5 11.5a6.4 6.4 0 0 1-.4 2.3M12 18v3.25" />
    <path d="m3.5 3.5 17 17" />
  </Icon>
)

export const SpeakerIcon = () => (
  <Icon>
    <path d="M4 9.5v5h3.2l4.8 4V5.5l-4.8 4zM15.5 9.2a4 4 0 0 1 0 5.6M18 6.5a7.8 7.8 0 0 1 0 11" />
  </Icon>
)

export const SearchIcon = () => (
  <Icon>
    <circle cx="10.75" cy="10.75" r="6.5" />
    <path d="m15.5 15.5 5 5" />
  </Icon>
)

export const CloseIcon = () => (
  <Icon>
    <path d="m6 6 12 12M18 6 6 18" />
  </Icon>
)

export const BackIcon = () => (
  <Icon>
    <path class="follows-reading" d="m14.5 5-7 7 7 7" />
  </Icon>
)

export const UnfoldIcon = () => (
  <Icon>
    <path d="m5.5 9 6.5 6.5L18.5 9" />
  </Icon>
)

export const PeopleIcon = () => (
  <Icon>
    <circle cx="9" cy="8" r="3.75" />
    <path d="M2.5 20a6.5 6.5 0 0 1 13 0M15.5 4.6a3.75 3.75 0 0 1 0 6.8M18 14.4a6.5 6.5 0 0 1 3.5 5.6" />
  </Icon>
)

export const RecentsIcon = () => (
  <Icon>
    <circle cx="12" cy="12" r="9" />
    <path d="M12 6.75V12l3.5 2.25" />
  </Icon>
)

export const QuietIcon = () => (
  <Icon>
    <path d="M20.5 14.3A8.75 8.75 0 1 1 9.7 3.5a7 7 0 0 0 10.8 10.8z" />
  </Icon>
)

export const MeIcon = () => (
  <Icon>
    <circle cx="12" cy="8" r="4" />
    <path d="M4.5 20.5a7.5 7.5 0 0 1 15 0" />
  </Icon>
)

export const LockIcon = () => (
  <Icon>
    <rect x="5" y="10.5" width="14" height="10" rx="2.75" />
    <path d="M8.25 10.5V7.25a3.75 3.75 0 0 1 7.5 0v3.25" />
  </Icon>
)

export const CopyIcon = () => (
  <Icon>
    <rect x="8.5" y="8.5" width="12" height="12" rx="2.75" />
    <path d="M15.5 5.75A2.25 2.25 0 0 0 13.25 3.5h-7.5A2.25 2.25 0 0 0 3.5 5.75v7.5a2.25 2.25 0 0 0 2.25 2.25" />
  </Icon>
)

export const ShareIcon = () => (
  <Icon>
    <path d="M12 15V3.5M7.75 7.25 12 3l4.25 4.25M5 12.5v5.75A2.25 2.25 0 0 0 7.25 20.5h9.5A2.25 2.25 0 0 0 19 18.25V12.5" />
  </Icon>
)

export const CheckIcon = () => (
  <Icon>
    <path d="m4.5 12.5 5 5 10-11" />
  </Icon>
)

export const OutgoingIcon = () => (
  <Icon>
    <path class="follows-reading" d="M6 18 18 6M9 6h9v9" />
  </Icon>
)

export const IncomingIcon = () => (
  <Icon>
    <path class="follows-reading" d="M18 6 6 18M15 18H6V9" />
  </Icon>
)

export const LeaveIcon = () => (
  <Icon>
    <path
      class="follows-reading"
      d="M14 3.5H7.25A2.25 2.25 0 0 0 5 5.75v12.5a2.25 2.25 0 0 0 2.25 2.25H14M10.5 12H21M17 8l4 4-4 4"
    />
  </Icon>
)

/** The sign of the product: two faces, and nothing between them. */
export const Mark = () => (
  <svg class="mark" viewBox="4 4 88 56" aria-hidden="true">
    <path class="mark-left" d="M42 4v56H32A28 28 0 0 1 32 4z" />
    <path class="mark-right" d="M54 4v56h10a28 28 0 0 0 0-56z" />
    <circle class="mark-eye" cx="30" cy="26" r="3.5" />
    <circle class="mark-eye" cx="66" cy="26" r="3.5" />
  </svg>
)

/** Two windows across a street, a light in one of them. */
export const EmptyDrawing = () => (
  <svg class="drawing" viewBox="0 0 240 150" aria-hidden="true">
    <rect class="drawing-soft" x="18" y="18" width="92" height="116" rx="20" />
    <circle class="drawing-face" cx="64" cy="64" r="19" />
    <path class="drawing-face" d="M30 134a34 34 0 0 1 68 0z" />
    <rect class="drawing-line" x="131" y="19" width="90" height="114" rx="19" />
    <circle class="drawing-line" cx="176" cy="64" r="19" />
    <path class="drawing-line" d="M144 133a32 32 0 0 1 64 0" />
  </svg>
)
