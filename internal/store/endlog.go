package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

const (
	// endLogSlots is how many ends the log remembers: as many as records may wait for the database.
	endLogSlots = queueBound
	// slotSize is the size of one end, and of the header, in bytes.
	slotSize = 1024
	// endLogSize is the size of the file, in bytes.
	endLogSize = (1 + endLogSlots) * slotSize
	// longestLoggedName is how many bytes of a user's name are logged. With that, a record always fits into a slot.
	longestLoggedName = 96
	// replayFor is how old an end may be that is queued for the database again at a start. Tickets of older calls
	// have expired.
	replayFor = 24 * time.Hour
	// endLogRetry is how long the log waits before it tries a failed write again.
	endLogRetry = time.Second
)

// endLog remembers the ends of accepted calls in a file beside the database. An end is in the file before anybody is
// told of it. So an ended call does not come back to life if the server is killed, or if the database takes no writes.
//
// The file has a fixed size and is allocated when it is created, so that a full disk does not matter. The first slot is
// a header. The others are a ring of the last endLogSlots ends, each with a checksum.
//
// One pwrite puts an end into the page cache, where it survives the process. A goroutine flushes the file to the disk
// within milliseconds; [Records] runs it and waits for it. Only a power cut in that time loses an end. Two other
// defenses remain then: a party is active again only after it has come back, and the SDK opens no device for a call
// that its page was not in. Waiting for the disk before each announcement would delay every call behind it.
type endLog struct {
	log    *slog.Logger
	failed prometheus.Counter
	dirty  signal // raised when something is to be flushed or written

	mu   sync.Mutex // guards all below
	file *os.File   // nil once it is closed
	next uint64     // the number of the next end; its slot is next modulo endLogSlots
	// ends are the remembered ends. ring has them in the order of their slots.
	ends map[protocol.CallID]struct{}
	ring [endLogSlots]loggedEnd
	// since is when the log began to be complete: it has the end of every call that was accepted later and has ended.
	since     time.Time
	unwritten []loggedEnd // ends that are not in the file because writing it failed, oldest first
}

// loggedEnd is the JSON of one end in the file.
type loggedEnd struct {
	Number uint64 // from 0 on
	// At is when the end was handed to the log. The end in the record may be earlier.
	At     time.Time
	Record call.Record
}

// endLogHeader is the JSON of the first slot.
type endLogHeader struct {
	Since time.Time // when the file was created
}

// openEndLog opens the log at path. If the file does not exist, it is created.
func openEndLog(path string, log *slog.Logger, failed prometheus.Counter) (*endLog, error) {
	l := &endLog{log: log, failed: failed, dirty: newSignal(), ends: map[protocol.CallID]struct{}{}}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeEndLog(path, time.Now()); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l.file = file
	if err := l.read(time.Now()); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), file.Close())
	}
	return l, nil
}

// makeEndLog creates an empty log. It writes the file under another name first, so that a log is either whole or does
// not exist.
func makeEndLog(path string, now time.Time) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".ends-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // it has been renamed if all went well
	header, err := slotOf(endLogHeader{Since: now})
	if err == nil {
		_, err = file.Write(append(header, make([]byte, endLogSize-slotSize)...))
	}
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// slotOf encodes a value as a slot: checksum, JSON, a line feed, zeros.
func slotOf(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	slot := fmt.Appendf(make([]byte, 0, slotSize), "%08x %s\n", crc32.ChecksumIEEE(body), body)
	if len(slot) > slotSize {
		return nil, fmt.Errorf("%d bytes do not fit into %d", len(slot), slotSize)
	}
	return slot[:slotSize], nil // the rest is zeros
}

var errBadSlot = errors.New("the checksum is wrong")

// parseSlot decodes what slotOf has encoded. used is false if nothing was ever written to the slot.
func parseSlot(slot []byte, value any) (used bool, err error) {
	if len(bytes.Trim(slot, "\x00")) == 0 {
		return false, nil
	}
	line, _, ok := bytes.Cut(slot, []byte("\n"))
	sum, body, spaced := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || !spaced || err != nil || crc32.ChecksumIEEE(body) != uint32(want) {
		return true, errBadSlot
	}
	return true, json.Unmarshal(body, value)
}

// read reads the file into memory.
func (l *endLog) read(now time.Time) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < endLogSize {
		return fmt.Errorf("it has %d bytes instead of %d; it can be removed while the server is stopped", info.Size(), endLogSize)
	}
	slots := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, endLogSize), 64*slotSize)
	slot := make([]byte, slotSize)
	var header endLogHeader
	if _, err := io.ReadFull(slots, slot); err != nil {
		return err
	}
	whole := true
	if _, err := parseSlot(slot, &header); err != nil {
		whole = false
	}
	l.since = header.Since
	full, oldest := true, time.Time{}
	for i := range endLogSlots {
		if _, err := io.ReadFull(slots, slot); err != nil {
			return err
		}
		var e loggedEnd
		used, err := parseSlot(slot, &e)
		switch {
		case err != nil || used && e.Number%endLogSlots != uint64(i): //nolint:gosec // i is not negative
			whole = false
		case !used:
			full = false
		default:
			l.ring[i] = e
			l.ends[e.Record.Call] = struct{}{}
			l.next = max(l.next, e.Number+1)
			if oldest.IsZero() || e.At.Before(oldest) {
				oldest = e.At
			}
		}
	}
	if full { // older ends may have been overwritten
		l.since = oldest
	}
	if !whole { // the end that is not legible may be that of any call
		l.since = now
		l.log.Warn("part of the log of ended calls is not legible; calls from before now are taken up only where the database knows them")
	}
	return nil
}

// add remembers an end. When it returns, the end survives the process. If writing the file fails, add logs that, and
// the goroutine tries again.
func (l *endLog) add(r call.Record, now time.Time) {
	r.Caller.Name = cut(r.Caller.Name)
	r.Callee.Name = cut(r.Callee.Name)
	l.mu.Lock()
	if _, known := l.ends[r.Call]; known || l.file == nil {
		l.mu.Unlock()
		return
	}
	e := loggedEnd{Number: l.next, At: now, Record: r}
	l.next++
	place := &l.ring[e.Number%endLogSlots]
	if place.Record.Call != "" {
		delete(l.ends, place.Record.Call)
		l.since = place.At
	}
	*place = e
	l.ends[r.Call] = struct{}{}
	l.unwritten = append(l.unwritten, e)
	if over := len(l.unwritten) - endLogSlots; over > 0 {
		l.unwritten = l.unwritten[over:] // their slots have newer ends
	}
	err := l.writeLocked()
	l.mu.Unlock()
	if err != nil {
		l.log.Error("the log of ended calls cannot be written; tried again until it can", "error", err)
		l.failed.Inc()
	}
	l.dirty.raise()
}

// cut shortens a name to longestLoggedName.
func cut(name string) string {
	if len(name) <= longestLoggedName {
		return name
	}
	return string(bytes.ToValidUTF8([]byte(name[:longestLoggedName]), nil))
}

// writeLocked writes the ends that are not in the file yet.
func (l *endLog) writeLocked() error {
	for len(l.unwritten) > 0 {
		e := l.unwritten[0]
		slot, err := slotOf(e)
		if err != nil {
			return err
		}
		offset := int64(1+e.Number%endLogSlots) * slotSize //nolint:gosec // a small number
		if _, err := l.file.WriteAt(slot, offset); err != nil {
			return err
		}
		l.unwritten = l.unwritten[1:]
	}
	l.unwritten = nil
	return nil
}

// run flushes the file after each end, and tries failed writes again, until ctx ends. Ends that come fast share a flush.
func (l *endLog) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.dirty:
		}
		if !l.flush() {
			pause(ctx, endLogRetry)
			l.dirty.raise()
		}
	}
}

// flush writes the ends that are not in the file yet, and flushes the file to the disk. It reports whether that
// succeeded.
func (l *endLog) flush() bool {
	l.mu.Lock()
	file := l.file
	if file == nil {
		l.mu.Unlock()
		return true
	}
	err := l.writeLocked()
	l.mu.Unlock()
	return err == nil && file.Sync() == nil // without the lock: this takes milliseconds
}

// ended reports whether a call is known to have ended.
func (l *endLog) ended(id protocol.CallID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ended := l.ends[id]
	return ended
}

// covers reports whether the log would have the end of a call that was accepted at that time.
func (l *endLog) covers(accepted time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since.Before(accepted)
}

// youngerThan returns the records of the ends that were added after t, oldest first.
func (l *endLog) youngerThan(t time.Time) []call.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var records []call.Record
	for n := range uint64(endLogSlots) {
		if e := l.ring[(l.next+n)%endLogSlots]; e.Record.Call != "" && e.At.After(t) {
			records = append(records, e.Record)
		}
	}
	return records
}

// close flushes and closes the file. Ends that are added later are not remembered.
func (l *endLog) close() error {
	l.flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.file
	l.file = nil
	return file.Close()
}
