// What Visavis is measured against: the signaling server of a hundred tutorials, Socket.IO on Node. Clients say who they are in
// the handshake; offers, answers and candidates go to whom they name. It keeps nothing, checks nothing and resumes nothing.
//
//   node --expose-gc server.js      prints "listening on http://HOST:PORT", which it takes from the environment;
//                                   SIGUSR2 collects garbage

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { Server } from 'socket.io'

// The page is for bench/call; signaling needs none.
const page = readFileSync(new URL('page.html', import.meta.url))
const http = createServer((_request, response) => {
  response.setHeader('Content-Type', 'text/html; charset=utf-8')
  response.end(page)
})
const io = new Server(http)
const sockets = new Map()

io.on('connection', (socket) => {
  const { username } = socket.handshake.query
  sockets.set(username, socket)
  for (const event of ['offer', 'answer', 'candidate']) {
    socket.on(event, (message) => {
      sockets.get(message.target)?.emit(event, { ...message, username })
    })
  }
  socket.on('disconnect', () => {
    if (sockets.get(username) === socket) sockets.delete(username)
  })
})

process.on('SIGUSR2', () => {
  globalThis.gc?.()
  console.log('collected')
})
const { HOST = '127.0.0.1', PORT = '0' } = process.env
http.listen(Number(PORT), HOST, () => {
  console.log(`listening on http://${HOST}:${http.address().port}`)
})
