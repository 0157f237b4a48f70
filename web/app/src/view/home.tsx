import type { App } from '../model/app.ts'
import type { Section } from '../model/home.ts'
import { t } from '../strings/pick.ts'
import { AfterCard } from './after.tsx'
import { MeIcon, PeopleIcon, QuietIcon, RecentsIcon } from './icons.tsx'
import { Me } from './me.tsx'
import { Nobody, People } from './people.tsx'
import { PersonPage } from './person.tsx'
import { Recents } from './recents.tsx'
import './home.css'

const sections = [
  { section: 'people', label: t.home.people, Icon: PeopleIcon },
  { section: 'recents', label: t.home.recents, Icon: RecentsIcon },
  { section: 'me', label: t.home.me, Icon: MeIcon },
] as const

export function Home({ app }: { app: App }) {
  const { home } = app
  const section = home.section.value
  const shown = home.shown.value
  return (
    <main
      class="home"
      aria-label={app.place.value?.name ?? 'Visavis'}
      data-person={home.chosen.value ? 'open' : 'closed'}
      data-section={section}
      data-connected={!app.disconnected.value}
    >
      <div class="list">
        {section !== 'me' && app.prefers.value.doNotDisturb && (
          <div class="quiet">
            <QuietIcon />
            <p>{t.home.quiet}</p>
            <button class="link" type="button" onClick={() => app.prefer({ doNotDisturb: false })}>
              {t.home.quietOff}
            </button>
          </div>
        )}
        {section === 'people' && <People app={app} />}
        {section === 'recents' && <Recents app={app} />}
        {section === 'me' && <Me app={app} />}
      </div>
      <nav class="tabs" aria-label={t.home.sections}>
        {sections.map((tab) => (
          <button
            key={tab.section}
            class="tab"
            type="button"
            aria-current={tab.section === section ? 'page' : undefined}
            onClick={() => open(app, tab.section)}
          >
            <tab.Icon />
            <span>{tab.label}</span>
            {tab.section === 'recents' && home.unseen.value > 0 && (
              <span class="tab-badge">
                <span aria-hidden="true">{home.unseen.value}</span>
                <span class="unseen">{t.home.missedCalls(home.unseen.value)}</span>
              </span>
            )}
          </button>
        ))}
      </nav>
      <div class="person-place">
        {shown ? <PersonPage app={app} person={shown} /> : <Nobody app={app} />}
      </div>
      <div class="floats" role="status">
        <Notices app={app} />
        {app.after.value && <AfterCard key={app.after.value} app={app} after={app.after.value} />}
      </div>
    </main>
  )
}

function open(app: App, section: Section) {
  app.home.section.value = section
  if (section === 'recents') {
    app.home.see()
    void app.home.fetchRecents()
  }
  if (section === 'me') app.push.look()
}

function Notices({ app }: { app: App }) {
  const ringing = app.call.value
  return (
    <>
      {app.disconnected.value && !app.entering.value && <p class="notice">{t.home.offlineBar}</p>}
      {app.silent.value && !app.disconnected.value && (
        <p class="notice">
          {t.home.silent}
          <button class="link" type="button">
            {t.home.allowSound}
          </button>
        </p>
      )}
      {ringing?.ignored.value && (
        <p class="notice">
          {t.home.stillRinging(ringing.peer.name)}
          <button
            class="link"
            type="button"
            onClick={() => {
              ringing.ignored.value = false
            }}
          >
            {t.home.show}
          </button>
        </p>
      )}
    </>
  )
}
