// The service worker of the page: it rings while the page is closed. It keeps nothing and answers no requests.

import { receivePushes } from 'visavis/worker'
import { notifications } from './strings/notifications.ts'

receivePushes({ say: notifications(navigator.language), icon: '/icon-192.png' })
