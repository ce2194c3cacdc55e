// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Checkpoints of Stele evidence logs
/// @notice Keeps, per log, every anchored size with its root. Sizes only grow, by compare-and-swap on the size before,
/// so of two anchors that race one reverts. Whoever anchors a log first owns it; nobody else can anchor it here.
/// @dev Anybody may claim any log id, so readers pin chain, contract and sender. There is no owner of the contract, no
/// upgrade and no way to remove anything. Storage layout is part of the interface: `rootAt` is slot 0, so a root stands
/// at keccak256(size . keccak256(logId . 0)), each of the three as a word of 32 bytes.
contract SteleAnchor {
    struct Head {
        address owner;
        uint64 size;
    }

    /// @notice Root of a log at an anchored size; zero for a size that was not anchored.
    mapping(bytes32 logId => mapping(uint64 size => bytes32 root)) public rootAt;

    /// @notice Who owns a log, and its newest anchored size.
    mapping(bytes32 logId => Head) public head;

    event Anchored(bytes32 indexed logId, uint64 prevSize, uint64 size, bytes32 root, address indexed by);

    /// @dev The log belongs to somebody else.
    error NotOwner(address owner);
    /// @dev Another size was anchored last: look again.
    error Stale(uint64 size);
    /// @dev The size does not grow.
    error NotGrowing();

    /// @param logId SHA-256 of the log's origin.
    /// @param prevSize Size anchored last; 0 if none was.
    /// @param size Size to anchor.
    /// @param root RFC 6962 root at that size.
    function anchor(bytes32 logId, uint64 prevSize, uint64 size, bytes32 root) external {
        Head storage last = head[logId];
        address owner = last.owner;
        uint64 stored = last.size;
        if (owner != address(0) && owner != msg.sender) revert NotOwner(owner);
        if (stored != prevSize) revert Stale(stored);
        if (size <= prevSize) revert NotGrowing();
        last.owner = msg.sender;
        last.size = size;
        rootAt[logId][size] = root;
        emit Anchored(logId, prevSize, size, root, msg.sender);
    }
}
