package main

import (
	"context"
	"fmt"
	"sort"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

func (d *driver) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	rpc := &csi.GroupControllerServiceCapability_RPC{Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT}
	return &csi.GroupControllerGetCapabilitiesResponse{
		Capabilities: []*csi.GroupControllerServiceCapability{{Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: rpc}}},
	}, nil
}

func (d *driver) CreateVolumeGroupSnapshot(_ context.Context, request *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	volumes := append([]string(nil), request.SourceVolumeIds...)
	sort.Strings(volumes)
	names := map[string]string{}
	for place, volume := range volumes {
		names[volume] = fmt.Sprintf("%s-%d", request.Name, place)
	}
	taken, err := d.take(names)
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: group(request.Name, taken)}, nil
}

func group(id string, taken []*csi.Snapshot) *csi.VolumeGroupSnapshot {
	made := &csi.VolumeGroupSnapshot{GroupSnapshotId: id, Snapshots: taken, ReadyToUse: true}
	for _, one := range taken {
		one.GroupSnapshotId = id
		made.CreationTime = one.CreationTime
		made.ReadyToUse = made.ReadyToUse && one.ReadyToUse
	}
	return made
}

func (d *driver) DeleteVolumeGroupSnapshot(ctx context.Context, request *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	for _, id := range request.SnapshotIds {
		if _, err := d.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id}); err != nil {
			return nil, err
		}
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

func (d *driver) GetVolumeGroupSnapshot(_ context.Context, request *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	names := map[string]string{}
	for _, id := range request.SnapshotIds {
		// Of one that is there the volume is of no account.
		names["of "+id] = id
	}
	taken, err := d.take(names)
	if err != nil {
		return nil, err
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: group(request.GroupSnapshotId, taken)}, nil
}
