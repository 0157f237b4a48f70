// Everything the page says, in English. A sentence says what happened, then what to do.

export const en = {
  language: 'en',
  opening: 'Coming in…',

  door: {
    name: 'Your name',
    enter: 'Come in',
    entering: 'Coming in…',
    devices: 'Your camera and microphone stay off until you call someone or accept a call.',
    insecure:
      'This page is not secure, so your browser will not give it a camera or a microphone. Ask for an address that begins with https:// – until then you can hear and see others, but they cannot hear or see you.',
    noCalls:
      'This browser cannot make calls: it has no WebRTC, or that is switched off. Open this address in Firefox, Chrome, Edge or Safari.',
    noDevices:
      'The browser inside this app gives pages no camera and no microphone. Open this page in your browser to be seen and heard.',
    blocked:
      'The server answers, but this network blocks WebSockets, which calls need. Use another network, such as mobile data, or ask whoever runs this one to allow them. Trying again…',
    unreachable: 'The server cannot be reached. Check your network; trying again…',
  },

  refusals: {
    name_missing: 'Type your name first, so that people know who calls.',
    bad_name:
      'That name has characters that cannot be seen, or is too long. Try a shorter, plainer one.',
    name_taken:
      'Somebody here has that name already, or one that looks like it. Add your family name or a letter.',
    unauthorized: 'This place lets in only people it knows. Ask whoever runs it for an account.',
    signed_out:
      'You were signed out on another page or device. Come in again: you are somebody new then.',
    version: 'This page is older than its server. Reload it.',
    rate_limited: 'That was too often in a short time. Wait a minute, then try again.',
    full: 'This place is full at the moment. Try again in a few minutes.',
    restarting: 'The server is restarting. Try again in a few seconds.',
    internal:
      'The server made a mistake and could not let you in. Try again; if it stays so, tell whoever runs it.',
    other: (message: string) => `The server did not let you in: ${message}. Try again.`,
  },

  home: {
    people: 'People',
    recents: 'Recents',
    me: 'Me',
    sections: 'Sections',
    search: 'Search people',
    clear: 'Clear the search',
    back: 'Back',
    online: 'Online',
    busy: 'In a call',
    offline: 'Offline',
    call: 'Call',
    voice: 'Voice',
    callPerson: (name: string) => `Call ${name}`,
    voicePerson: (name: string) => `Voice call ${name}`,
    callAgain: (name: string) => `Video call ${name} again`,
    voiceAgain: (name: string) => `Voice call ${name} again`,
    lastCalls: 'Last calls',
    noLastCalls: (name: string) => `You and ${name} have not called each other yet.`,
    found: (count: number | string) => `${count} found`,
    notFound: (query: string) =>
      `Nobody here is called “${query}”. Check the spelling, or ask them to come in.`,
    emptyTitle: 'Nobody else is here yet',
    empty:
      'Send this address to the person you want to talk to. They appear here as soon as they open it.',
    emptyLoopback: (command: string) =>
      `This address opens only on this machine: try it in a second window. To reach phones and other computers, start the server with ${command}.`,
    copy: 'Copy link',
    copied: 'Copied',
    share: 'Share link',
    noRecents: 'No calls yet',
    noRecentsHint: 'Your calls are listed here once you have made or missed one.',
    recentsLost: 'Your calls could not be fetched from the server.',
    recentsIncomplete: 'Some calls are missing here. They appear once the server has stored them.',
    tryAgain: 'Try again',
    incoming: 'Incoming',
    outgoing: 'Outgoing',
    missed: 'Missed',
    unanswered: 'No answer',
    declined: 'Declined',
    canceled: 'Canceled',
    wasBusy: 'Was busy',
    unreached: 'Not reached',
    failed: 'Not connected',
    offlineBar: 'Connection lost. Trying again…',
    stillRinging: (name: string) => `${name} is still calling.`,
    show: 'Show',
    silent: 'This page rings without a sound until you touch it.',
    allowSound: 'Allow sound',
    missedCalls: (count: number | string) => `${count} missed`,
    quiet: 'Do not disturb is on. Nothing rings.',
    quietOff: 'Turn off',
  },

  me: {
    name: 'Your name',
    change: 'Change name',
    changing: 'Changing…',
    changed: 'People see your new name now.',
    you: 'This is how others see you.',
    whenBusy: 'When I am in a call',
    ringSoftly: 'Let it ring softly',
    ringSoftlyHint: 'You see who calls, and can end your call to accept.',
    beBusy: 'Busy',
    beBusyHint: 'Callers are told that you are busy.',
    doNotDisturb: 'Do not disturb',
    doNotDisturbHint: 'Nothing rings. Callers are told that you are busy.',
    encryptedHint:
      'Calls are encrypted between the two browsers, through the relay too. This is not yet verified: you trust this server to connect you with the right person.',
    push: 'Ring this device when the page is closed',
    pushHint:
      'Calls then come as notifications: encrypted, through the push service of your browser’s maker.',
    pushUnsupported: 'This browser cannot do that. Keep the page open to be rung.',
    pushInsecure: 'Browsers do that for secure pages only. Open this one with https://.',
    pushHomeScreen:
      'Put this page on your home screen first: tap Share, then Add to Home Screen, and open it from there.',
    pushBlocked:
      'Your browser does not let this page show notifications. Allow them beside the address or in the device’s settings, then come back.',
    pushUnavailable: 'This place does not ring closed pages. Ask whoever runs it to turn push on.',
    pushFirstCall:
      'You can turn this on after your first call. Before that nobody could ring you here.',
    pushNotAllowed:
      'That needs your leave to show notifications. Turn it on again, then allow them.',
    pushServiceAway:
      'The push service of your browser’s maker does not answer. Check your network, or try another browser.',
    pushOffline: 'The server cannot be reached. Wait until the connection is back, then try again.',
    pushRefused: (message: string) => `It could not be turned on: ${message}. Try again.`,
    alwaysRelay: 'Hide my network address',
    alwaysRelayHint:
      'From the next call on, sound and picture go through the relay of this place only. The people you call do not see where you are; both may arrive a little later.',
    relayStrangers: 'Hide it from people who are new to me',
    relayStrangersHint:
      'When somebody calls you for the first time, sound and picture go through the relay of this place, and they do not see where you are. Your later calls with them are direct.',
    shortcuts: 'Keys in a call',
    shortcutsHint: 'M mutes, and C turns the camera on and off.',
    leave: 'Leave',
    leaveHint: 'This browser then forgets your name and shows the door again.',
    signOut: 'Sign out everywhere',
    signOutHint: 'For when somebody else may have a browser in which you came in.',
    signOutAsk:
      'Sign out on all devices, this one too? You come in as somebody new then, and your calls are no longer listed.',
    signOutFailed: 'The server could not sign you out. You are still in; try again in a while.',
  },

  ringing: {
    calling: (name: string) => `Calling ${name}…`,
    ringing: 'Ringing…',
    video: (place: string) => `${place} video call`,
    voice: (place: string) => `${place} voice call`,
    accept: 'Accept',
    accepting: 'Accepting…',
    voiceOnly: 'Voice only',
    decline: 'Decline',
    ignore: 'Ignore',
    endAndAccept: 'End and accept',
    elsewhere: {
      device: 'You are in a call on another device. Accepting this one ends it.',
      tab: 'You are in a call in another tab. Accepting this one ends it.',
    },
    title: (name: string) => `${name} is calling`,
    silent: 'It rings without a sound. Tap here to hear it.',
    preview: 'How you look',
  },

  call: {
    connecting: 'Connecting…',
    with: (name: string) => `Call with ${name}`,
    encrypted: 'Encrypted between the two browsers; not yet verified',
    controls: 'Call controls',
    mute: 'Mute',
    camera: 'Camera',
    hangup: 'Hang up',
    time: 'Length of the call',
    yourPicture: 'Your picture',
    peerPicture: (name: string) => `Picture of ${name}`,
    swap: 'Swap the pictures. Arrow keys move the small one.',
    cameraOff: (name: string) => `${name}’s camera is off`,
    muted: (name: string) => `${name}’s microphone is off`,
    bothOff: (name: string) => `${name}’s camera and microphone are off`,
    peerAsked: {
      audio: (name: string) => `${name} is asked to allow the microphone.`,
      video: (name: string) => `${name} is asked to allow the camera.`,
      both: (name: string) => `${name} is asked to allow camera and microphone.`,
    },
    youMuted: 'Your microphone is off',
    tapToHear: (name: string) => `Tap to hear ${name}`,
    yourConnection: 'Your connection dropped. Trying again…',
    peerConnection: (name: string) => `${name}’s connection dropped. Waiting…`,
    peerReloading: (name: string) => `${name} is reloading the page…`,
    peerGone: (name: string) => `${name} may have closed the page. Waiting…`,
    returning: 'Coming back to the call…',
    interrupted: 'The connection was interrupted. Trying again…',
    dismiss: 'Dismiss',
    leave: (name: string) => `Hang up on ${name}?`,
  },

  devices: {
    asking: {
      audio: 'Your browser asks whether this page may use your microphone. Allow it above.',
      video: 'Your browser asks whether this page may use your camera. Allow it above.',
      both: 'Your browser asks whether this page may use your camera and microphone. Allow them above.',
    },
    denied: {
      audio:
        'Your browser does not give this page your microphone. Allow it beside the address, then tap Mute.',
      video:
        'Your browser does not give this page your camera. Allow it beside the address, then tap Camera.',
      both: 'Your browser does not give this page your camera and microphone. Allow them beside the address.',
    },
    missing: {
      audio: 'No microphone was found. Plug one in, then tap Mute.',
      video: 'No camera was found. Plug one in, then tap Camera.',
      both: 'No camera and no microphone were found. Plug them in, then tap Mute and Camera.',
    },
    busy: {
      audio: 'Your microphone is used by another program. Close that, then tap Mute.',
      video: 'Your camera is used by another program. Close that, then tap Camera.',
      both: 'Your camera and microphone are used by another program. Close that, then tap Mute and Camera.',
    },
    insecure: {
      audio: 'Browsers give a microphone to secure pages only. Open this one with https://.',
      video: 'Browsers give a camera to secure pages only. Open this one with https://.',
      both: 'Browsers give camera and microphone to secure pages only. Open this one with https://.',
    },
    failed: {
      audio: 'Your microphone did not start. Unplug it and plug it in again, then tap Mute.',
      video: 'Your camera did not start. Unplug it and plug it in again, then tap Camera.',
      both: 'Your camera and microphone did not start. Unplug them and plug them in again, then tap Mute and Camera.',
    },
    replaced: {
      audio: 'Your microphone is gone. Another one is used now.',
      video: 'Your camera is gone. Another one is used now.',
      both: 'Your camera and microphone are gone. Others are used now.',
    },
    muted: {
      audio: 'Your device holds the microphone back, perhaps for a phone call.',
      video: 'Your device holds the camera back. Come back to this page, or close what uses it.',
      both: 'Your device holds camera and microphone back, perhaps for a phone call.',
    },
    silent: {
      audio:
        'No sound comes from your microphone. Look for a switch on it, or plug in another one.',
      video: 'Your camera has stopped. Tap Camera twice to start it again.',
      both: 'Nothing comes from your camera and microphone. Plug them in again.',
    },
    effect: {
      audio: (name: string) => `${name} cannot hear you.`,
      audioOnly: (name: string) => `${name} sees you but cannot hear you.`,
      video: (name: string) => `${name} hears you but cannot see you.`,
      both: (name: string) => `${name} can neither see nor hear you.`,
      neither: 'Nobody sees or hears you.',
    },
  },

  after: {
    card: 'How the call ended',
    hungupByMe: 'You hung up.',
    hungupByPeer: (name: string) => `${name} hung up.`,
    over: 'The call is over.',
    canceledByMe: (name: string) => `You hung up before ${name} answered.`,
    canceledByPeer: (name: string) => `${name} stopped calling before you answered.`,
    declined: (name: string) => `${name} declined.`,
    declinedByMe: 'You declined.',
    unanswered: (name: string) => `No answer. ${name} did not pick up.`,
    missed: (name: string) => `You missed a call from ${name}.`,
    unreachable: (name: string) => `${name} could not be reached. Try again later.`,
    busy: (name: string) => `${name} is busy. Try again in a while.`,
    failed: (name: string) =>
      `No picture or sound came through between you and ${name}. Try again, or from another network.`,
    failedBecause: {
      description: (name: string) =>
        `Your browser and ${name}’s cannot talk to each other. Update them, or use another browser.`,
      relay_full: (name: string) =>
        `There was no room for your call with ${name} on the relay of this place. Try again in a few minutes.`,
      relay_refused: (name: string) =>
        `The relay of this place refused your call with ${name}. Reload the page, then try again.`,
      relay_unreachable: (name: string) =>
        `There is no direct path to ${name}, and the relay of this place does not answer. Try another network, or tell whoever runs this place.`,
      no_answer: (name: string) => `${name}’s page did not answer. Ask them to reload it.`,
      no_path: (name: string) =>
        `No path was found between your network and ${name}’s. Try another network, such as a phone’s.`,
    },
    lost: 'The connection was lost and did not come back.',
    closedByPeer: (name: string) => `${name} closed the page.`,
    limit: 'The call reached this place’s limit.',
    terminated: 'Whoever runs this place ended the call.',
    restarted: 'The server restarted and could not keep the call. Call again.',
    elsewhere: 'The call goes on in another window.',
    acceptedElsewhere: 'Answered on another device.',
    declinedElsewhere: 'Declined on another device.',
    acceptedInTab: 'Answered in another tab.',
    declinedInTab: 'Declined in another tab.',
    gone: (name: string) => `${name} is not here any more.`,
    inCall: 'You are in a call already, perhaps in another window. End that one first.',
    tooMany: 'Those were many calls in a short time. Wait a minute, then call again.',
    offline:
      'You are not connected to the server. Wait until the connection is back, then call again.',
    refused: (message: string) => `The call could not be made: ${message}.`,
    lasted: (time: string) => `Lasted ${time}`,
    again: 'Video call again',
    voiceAgain: 'Voice call again',
    close: 'Close',
  },
}

export type Strings = typeof en
