import type { ComponentChildren } from 'preact'
import type { Section } from '../model/home.ts'
import { t } from '../strings/pick.ts'
import { MeIcon, PeopleIcon, QuietIcon, RecentsIcon } from './icons.tsx'
import './home.css'

const sections = [
  { section: 'people', label: t.home.people, Icon: PeopleIcon },
  { section: 'recents', label: t.home.recents, Icon: RecentsIcon },
  { section: 'me', label: t.home.me, Icon: MeIcon },
] as const

interface Props {
  place: string
  section: Section
  /** How many missed calls the person has not seen. */
  missed: number
  /** A person was chosen, who lies over the list where there is little room. */
  personOpen: boolean
  disconnected: boolean
  doNotDisturb: boolean
  onSection: (section: Section) => void
  onDisturb: () => void
  /** What the section shows, the person beside it, and what floats over both. */
  list: ComponentChildren
  person: ComponentChildren
  floats: ComponentChildren
}

/** The page outside of calls: a list, one person beside it, and the way to other lists. */
export function Home(props: Props) {
  const { section, missed } = props
  return (
    <main
      class="home"
      aria-label={props.place}
      data-person={props.personOpen ? 'open' : 'closed'}
      data-section={section}
      data-connected={!props.disconnected}
    >
      <div class="list">
        {section !== 'me' && props.doNotDisturb && (
          <div class="quiet">
            <QuietIcon />
            <p>{t.home.quiet}</p>
            <button class="link" type="button" onClick={props.onDisturb}>
              {t.home.quietOff}
            </button>
          </div>
        )}
        {props.list}
      </div>
      <nav class="tabs" aria-label={t.home.sections}>
        {sections.map((tab) => (
          <button
            key={tab.section}
            class="tab"
            type="button"
            aria-current={tab.section === section ? 'page' : undefined}
            onClick={() => props.onSection(tab.section)}
          >
            <tab.Icon />
            <span>{tab.label}</span>
            {tab.section === 'recents' && missed > 0 && (
              <span class="tab-badge">
                <span aria-hidden="true">{missed}</span>
                <span class="unseen">{t.home.missedCalls(missed)}</span>
              </span>
            )}
          </button>
        ))}
      </nav>
      <div class="person-place">{props.person}</div>
      <div class="floats" role="status">
        {props.floats}
      </div>
    </main>
  )
}

interface NoticesProps {
  /** The server is not reached. */
  offline: boolean
  /** The browser lets the page make no sound. */
  silent: boolean
  /** Who rings on although the person ignored the call here. */
  ringing: string | undefined
  /** Shows that call again. */
  onShow: () => void
}

export function Notices({ offline, silent, ringing, onShow }: NoticesProps) {
  return (
    <>
      {offline && <p class="notice">{t.home.offlineBar}</p>}
      {silent && (
        <p class="notice">
          {t.home.silent}
          <button class="link" type="button">
            {t.home.allowSound}
          </button>
        </p>
      )}
      {ringing !== undefined && (
        <p class="notice">
          {t.home.stillRinging(ringing)}
          <button class="link" type="button" onClick={onShow}>
            {t.home.show}
          </button>
        </p>
      )}
    </>
  )
}
