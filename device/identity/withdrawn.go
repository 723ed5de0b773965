package identity

import (
	"errors"
	"slices"
	"time"

	"vindu/protocol"
)

// maxRemembered is how many withdrawn mandates a terminal remembers: as many as several full lists of protocol.MaxWithdrawn.
const maxRemembered = 1024

// forgetAfter is how long this program has to have known a withdrawn mandate before that makes room for another: as long as a mandate can be good, and a week. It is measured by
// the monotonic clock, which who tells the terminal the time cannot turn.
const forgetAfter = protocol.MaxMandateLife + 7*24*time.Hour

var errManyWithdrawn = errors.New("more authorisations of technicians are said to be withdrawn than this terminal can remember: those beyond hold as long as the clinic names them")

// Withdrawn tells whether the clinic has taken the mandate with this id back: settings name it now, or have named it before. Settings are not signed, and a server that was
// restored, or is another's, is not to give a mandate back by leaving it out, nor by naming others in its place.
func (i *Identity) Withdrawn(id protocol.Nonce) bool {
	g := i.kept()
	return g != nil && (slices.Contains(g.Settings.Withdrawn, id) || slices.Contains(g.withdrawn, id))
}

// remember adds what settings name as withdrawn to what is known, which stays first. What has no room is an error with a code, and changes nothing else. i.writing is held.
func (i *Identity) remember(known, named []protocol.Nonce) ([]protocol.Nonce, error) {
	all, now := slices.Clone(known), time.Now()
	for _, id := range named {
		if slices.Contains(all, id) {
			continue
		}
		if len(all) == maxRemembered {
			old := slices.IndexFunc(all, func(id protocol.Nonce) bool {
				return now.Sub(i.knownSince(id)) >= forgetAfter && !slices.Contains(named, id)
			})
			if old < 0 {
				return all, protocol.WithCode(protocol.AuthWithdrawnMany, errManyWithdrawn)
			}
			delete(i.heard, all[old])
			all = slices.Delete(all, old, old+1)
		}
		i.heard[id] = now
		all = append(all, id)
	}
	return all, nil
}

// knownSince is from when on this program has known that a mandate is withdrawn. i.writing is held.
func (i *Identity) knownSince(id protocol.Nonce) time.Time {
	if at, ok := i.heard[id]; ok {
		return at
	}
	return i.began
}
