// The whole page. Here, and only here, the screens are joined to the model: the views below get what they show, and
// functions for what a person does.

import './tokens.css'
import './base.css'
import { useEffect } from 'preact/hooks'
import type { App } from '../model/app.ts'
import type { CallModel } from '../model/call.ts'
import type { Section } from '../model/home.ts'
import type { Person } from '../model/person.ts'
import { AfterCard } from './after.tsx'
import { Door, Opening } from './door.tsx'
import { Home, Notices } from './home.tsx'
import { ChoiceList, EncryptedHint, Leave, Me, NameForm, PushChoice } from './me.tsx'
import { Nobody, People } from './people.tsx'
import { PersonPage } from './person.tsx'
import { Recents } from './recents.tsx'
import { Returning } from './returning.tsx'
import { Stage } from './stage.tsx'

interface Props {
  app: App
}

export function Page({ app }: Props) {
  const screen = app.screen.value
  const call = app.call.value

  // The focus goes where the new screen begins, so that keyboard and screen reader are not left behind.
  useEffect(() => {
    document.querySelector<HTMLElement>('[data-focus]')?.focus({ preventScroll: true })
  }, [screen, call])

  switch (screen) {
    case 'opening':
      return <Opening place={app.placeName.value} />
    case 'returning':
      return app.returning.value ? <Returning peer={app.returning.value} /> : null
    case 'door':
      return <DoorScreen app={app} />
    case 'home':
      return <HomeScreen app={app} />
    case 'ringing':
    case 'call':
      return call ? <CallScreen key={call} app={app} call={call} screen={screen} /> : null
    default:
      screen satisfies never
      return null
  }
}

function DoorScreen({ app }: Props) {
  return (
    <Door
      place={app.placeName.value}
      able={app.able}
      secure={app.secure}
      rememberedName={app.rememberedName}
      refused={app.refusal.value}
      entering={app.entering.value}
      offline={app.connection.value === 'offline'}
      blocked={app.blocked.value}
      onEnter={(name) => void app.enter(name)}
      onEdit={() => {
        app.refusal.value = undefined
      }}
    />
  )
}

function CallScreen({
  app,
  call,
  screen,
}: Props & { call: CallModel; screen: 'ringing' | 'call' }) {
  return (
    <Stage
      call={call}
      screen={screen}
      waiting={app.waiting.value}
      place={app.placeName.value}
      online={app.connection.value === 'online'}
      disconnected={app.disconnected.value}
      silent={app.silent.value}
      shortcuts={app.choices.shortcuts.value}
      onAcceptWaiting={() => app.acceptWaiting()}
    />
  )
}

function HomeScreen({ app }: Props) {
  const { home, choices } = app
  const section = home.section.value
  return (
    <Home
      place={app.placeName.value}
      section={section}
      missed={home.unseen.value}
      personOpen={home.chosen.value !== undefined}
      disconnected={app.disconnected.value}
      doNotDisturb={choices.prefers.value.doNotDisturb}
      onSection={(chosen) => open(app, chosen)}
      onDisturb={() => choices.prefer({ doNotDisturb: false })}
      list={
        section === 'people' ? (
          <PeopleSection app={app} />
        ) : section === 'recents' ? (
          <RecentsSection app={app} />
        ) : (
          <MeSection app={app} />
        )
      }
      person={<ShownPerson app={app} />}
      floats={<Floats app={app} />}
    />
  )
}

function open(app: App, section: Section): void {
  app.home.section.value = section
  if (section === 'recents') {
    app.home.see()
    void app.home.fetchRecents()
  }
  if (section === 'me') app.push.look()
}

/** What a person does with people and calls in a list. */
function listActs({ app }: Props) {
  return {
    onChoose: (person: Person) => {
      app.home.chosen.value = person
    },
    onRing: (person: Person, video: boolean) => app.ring(person, video),
  }
}

function PeopleSection({ app }: Props) {
  const { home } = app
  return (
    <People
      place={app.placeName.value}
      people={home.people.value}
      found={home.found.value}
      query={home.query.value}
      shown={home.shown.value}
      disconnected={app.disconnected.value}
      onQuery={(query) => {
        home.query.value = query
      }}
      {...listActs({ app })}
    />
  )
}

function RecentsSection({ app }: Props) {
  const { home } = app
  return (
    <Recents
      recents={home.recents.value}
      lost={home.recentsLost.value}
      incomplete={home.recentsIncomplete.value}
      now={home.now()}
      disconnected={app.disconnected.value}
      onRetry={() => void home.fetchRecents()}
      {...listActs({ app })}
    />
  )
}

function MeSection({ app }: Props) {
  const { choices, push } = app
  const user = app.user.value
  return (
    <Me user={user}>
      <NameForm
        name={user?.name}
        rememberedName={app.rememberedName}
        refused={app.refusal.value}
        renaming={app.renaming.value}
        renamed={app.renamed.value}
        onRename={(name) => void app.rename(name)}
        onEdit={() => {
          app.refusal.value = undefined
          app.renamed.value = false
        }}
      />
      <ChoiceList
        prefers={choices.prefers.value}
        alwaysRelay={choices.alwaysRelay.value}
        relayStrangers={choices.relayStrangers.value}
        shortcuts={choices.shortcuts.value}
        onPrefer={(change) => choices.prefer(change)}
        onAlwaysRelay={(on) => choices.hideAddress(on)}
        onRelayStrangers={(on) => choices.hideAddressFromStrangers(on)}
        onShortcuts={(on) => choices.useShortcuts(on)}
      >
        <PushChoice
          state={push.state.value}
          on={push.on.value}
          refused={push.refusal.value}
          neverCalled={app.home.neverCalled.value}
          secure={app.secure}
          wantsHomeScreen={app.wantsHomeScreen}
          disconnected={app.disconnected.value}
          onTurn={(on) => void push.turn(on)}
        />
      </ChoiceList>
      <EncryptedHint />
      <Leave
        waits={app.signingOut.value || app.disconnected.value}
        refused={app.signOutRefusal.value}
        onLeave={() => app.leave()}
        onSignOut={() => void app.signOut()}
      />
    </Me>
  )
}

function ShownPerson({ app }: Props) {
  const { home } = app
  const person = home.shown.value
  if (!person) return <Nobody place={app.placeName.value} />
  return (
    <PersonPage
      person={person}
      calls={home.lastCalls.value}
      now={home.now()}
      chosen={home.chosen.value?.id}
      disconnected={app.disconnected.value}
      onBack={() => {
        home.chosen.value = undefined
      }}
      onRing={(video) => app.ring(person, video)}
    />
  )
}

function Floats({ app }: Props) {
  const disconnected = app.disconnected.value
  const after = app.after.value
  const ringing = app.call.value?.ignored.value ? app.call.value : undefined
  return (
    <>
      <Notices
        offline={disconnected && !app.entering.value}
        silent={app.silent.value && !disconnected}
        ringing={ringing?.peer.name}
        onShow={() => {
          if (ringing) ringing.ignored.value = false
        }}
      />
      {after && (
        <AfterCard
          key={after}
          after={after}
          disconnected={disconnected}
          onAgain={() => app.ring(after.peer, after.video)}
        />
      )}
    </>
  )
}
