//go:build !linux

package relay

import "net/netip"

type descriptor struct{}

func openCarrier(s *Server, at netip.AddrPort) (carrier, error) { return openPortable(s, at) }
