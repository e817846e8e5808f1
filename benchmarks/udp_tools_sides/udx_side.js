// One side of a transfer by UDX: `udx_side.js receive FILE OWN-HOST OTHER-HOST`, or `send`. Run by udp_tools.py, with
// the ports below. Nothing is encrypted: UDX leaves that to whoever uses it.
'use strict'
const fs = require('fs')
const UDX = require('udx-native')

const PIECE = 1 << 20
const PORTS = { send: 7430, receive: 7431 }
const [role, path, own, other] = process.argv.slice(2)
const udx = new UDX()
const socket = udx.createSocket()
socket.bind(PORTS[role], own)
const stream = udx.createStream(role === 'send' ? 1 : 2)
stream.connect(socket, role === 'send' ? 2 : 1, PORTS[role === 'send' ? 'receive' : 'send'], other)

if (role === 'receive') {
  const file = fs.openSync(path, 'w')
  let begun = 0n
  stream.on('data', (piece) => {
    if (!begun) begun = process.hrtime.bigint()
    fs.writeSync(file, piece)
  })
  stream.on('end', () => {
    console.log((Number(process.hrtime.bigint() - begun) / 1e9).toFixed(6))
    stream.end()
  })
  console.log('ready')
} else {
  const file = fs.openSync(path, 'r')
  const next = () => {
    for (;;) {
      const piece = Buffer.allocUnsafe(PIECE)
      const count = fs.readSync(file, piece)
      if (!count) return stream.end()
      if (!stream.write(piece.subarray(0, count))) return stream.once('drain', next)
    }
  }
  next()
  stream.resume()
}
stream.on('close', () => process.exit(0))
