package store

// signal wakes one goroutine that waits for it. Raising it twice before the goroutine has looked is raising it once.
// The channel has room for one element and is never closed.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

// raise wakes the goroutine, now or when it next waits. It does not block.
func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}
